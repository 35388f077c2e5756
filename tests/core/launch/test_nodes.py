"""Launchers of several machines, here in threads: they meet, hear each other's alarm, and agree on how all ended."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fttool.errors import FttoolError, UsageError
from fttool.launch import nodes as module
from fttool.launch.nodes import LOOPBACK, Nodes, loopback
from fttool.launch.verdict import Ended


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as opened:
        return opened.getsockname()[1]


@pytest.fixture
def both() -> Iterator[list[Nodes]]:
    """Two that have met."""
    port = free_port()
    made = [Nodes(2, rank, LOOPBACK, port) for rank in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Nodes.meet, made))
    yield made


def test_they_open_one_place_for_each_attempt(both: list[Nodes]) -> None:
    first, second = ([one.endpoint(attempt) for one in both] for attempt in range(2))
    assert first[0] == first[1] and second[0] == second[1] and first != second
    host, _, port = first[0].rpartition(":")
    assert host == LOOPBACK and 0 < int(port) < 2**16


def test_an_alarm_is_heard_by_all_and_is_of_one_attempt(both: list[Nodes]) -> None:
    assert not any(one.alarmed(0) for one in both)
    both[1].alarm(0)
    assert all(one.alarmed(0) for one in both) and not any(one.alarmed(1) for one in both)


def test_they_learn_how_the_others_ended(both: list[Nodes]) -> None:
    ended = [Ended(codes={"0": -9}, begun=True), Ended(reaped=[1], reports=[{"rank": 1, "text": "ä"}], asked=[15])]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda node: node.gather(0, ended[node.rank]), both))
    assert found == [ended, ended]


def test_one_that_does_not_answer_is_missing(both: list[Nodes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER", 0.2)
    mine = Ended(begun=True)
    assert both[0].gather(0, mine) == [mine, None]
    with pytest.raises(FttoolError, match="node 0 does not answer any more"):
        both[1].endpoint(7)


class Gone:
    """The store of a first machine that has gone."""

    def check(self, *_: object) -> bool:
        raise RuntimeError("Connection reset by peer")

    set = check


def test_where_the_first_has_gone_that_is_an_alarm() -> None:
    left = Nodes(2, 1, LOOPBACK, 1)
    left.store = Gone()
    left.alarm(0)
    assert left.alarmed(0) and left.gather(0, Ended()) == [None, Ended()]


def test_alone_it_answers_at_once_and_listens_on_the_loopback_alone() -> None:
    alone = Nodes()
    alone.meet()
    alone.alarm(0)
    assert alone.store is None and not alone.alarmed(0) and alone.gather(0, Ended()) == [Ended()]
    host, _, port = alone.endpoint(0).rpartition(":")
    assert host == LOOPBACK
    socket.create_connection((host, int(port)), timeout=5).close()
    assert loopback() in ("lo", "lo0", None)


def test_two_with_one_rank_are_refused(both: list[Nodes]) -> None:
    with pytest.raises(UsageError, match="two launchers with --node-rank 1"):
        Nodes(2, 1, both[0].host, both[0].port).meet()


def test_a_port_that_another_holds_is_refused() -> None:
    taken = socket.create_server((LOOPBACK, 0))
    with taken, pytest.raises(UsageError, match="nodes cannot meet at") as refused:
        Nodes(2, 0, LOOPBACK, taken.getsockname()[1]).meet()
    assert "another run may hold it" in str(refused.value)


@pytest.mark.parametrize(
    ("rank", "said"), [(0, "not all of the 2 nodes were started"), (1, "nobody answers at .*: is node 0 started")]
)
def test_one_that_waits_for_others_gives_up(rank: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEETING", 0.1)
    with pytest.raises(FttoolError, match=said):
        Nodes(2, rank, LOOPBACK, free_port()).meet()


def test_what_the_command_line_says() -> None:
    made = Nodes.of(2, 1, "[::1]:29400")
    assert (made.size, made.rank, made.host, made.port, made.first) == (2, 1, "::1", 29400, False)
    assert Nodes.of(1, None, None).first
