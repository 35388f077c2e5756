"""A launcher on each machine, and one run: here two on one machine, which meet over the loopback."""

from __future__ import annotations

import os
import signal
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main
from fttool.launch.verdict import Ended, judge

from .conftest import UPDATES
from .sabotage import sabotage
from .watching import alive, assert_same, children, dist, events, free_port, updates, wait_for


@pytest.fixture
def two(started: Any) -> Any:
    """Start the launchers of two nodes."""

    def start(*words: str, **environment: str) -> tuple[Any, Any]:
        told = ["--nodes", "2", "--rendezvous", f"localhost:{free_port()}", *words]
        second = started(*told, "--node-rank", "1", **environment)
        return started(*told, "--node-rank", "0", **environment), second

    return start


class TestTwoLaunchers:
    pytestmark = dist

    def test_one_run_that_restarts_on_both(
        self, tmp_path: Path, recipe: dict[str, Any], two: Any, undisturbed: Path
    ) -> None:
        recipe["run"]["max_steps"] = UPDATES
        recipe["checkpoints"] = {"every": 10}
        recipe["sharding"]["max_restarts"] = 1
        first, second = two()
        wait_for(lambda: updates(tmp_path) >= 2)
        os.kill(children(first)[0], signal.SIGKILL)
        said = [process.communicate(timeout=240)[1] for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), said
        run = tmp_path / "runs" / "r"
        assert_same(run, undisturbed)
        assert [one["event"] for one in events(run) if one["event"] in ("started", "restarted", "resumed")] == [
            "started",
            "restarted",
            "resumed",
        ]
        assert "process 1 of 2 was killed by SIGKILL" in said[0]
        assert "process 1 of 2, on another node, was killed by SIGKILL" in said[1]

    def test_an_exception_on_one_ends_both(self, tmp_path: Path, recipe: dict[str, Any], two: Any) -> None:
        recipe["run"]["max_steps"] = 5000
        both = two(**sabotage(tmp_path, "raise RuntimeError('a cosmic ray')"))
        ranks = [wait_for(lambda one=one: children(one))[0] for one in both]
        wait_for((tmp_path / "sabotage" / "done").exists)
        begun = time.monotonic()
        said = [process.communicate(timeout=30)[1] for process in both]
        assert time.monotonic() - begun < 15
        assert [process.returncode for process in both] == [1, 1] and not alive(ranks)
        assert "a cosmic ray\n    in process 2 of 2, on another node" in said[0]
        assert "a cosmic ray\n    in process 2 of 2\n" in said[1]

    def test_sigterm_to_one_stops_both_with_a_checkpoint(
        self, tmp_path: Path, recipe: dict[str, Any], two: Any
    ) -> None:
        recipe["run"]["max_steps"] = 5000
        both = two()
        wait_for(lambda: updates(tmp_path) >= 2)
        both[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in both]
        assert [process.returncode for process in both] == [143, 143], said
        assert list((tmp_path / "runs" / "r" / "checkpoints").glob("checkpoint-*"))

    def test_a_launcher_that_is_killed_ends_the_other(self, tmp_path: Path, recipe: dict[str, Any], two: Any) -> None:
        recipe["run"]["max_steps"] = 5000
        first, second = two()
        wait_for(lambda: updates(tmp_path) >= 2)
        ranks = [*children(first), *children(second)]
        first.kill()
        _, said = second.communicate(timeout=60)
        assert second.returncode == 1 and "node 0 does not answer" in said, said
        wait_for(lambda: not alive(ranks), 10)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "2"], "each must be told which it is"),
        (["--nodes", "2", "--node-rank", "0"], "each must be told which it is"),
        (["--nodes", "2", "--rendezvous", "a:1"], "each must be told which it is"),
        (["--node-rank", "0"], "--node-rank is for a run on several nodes"),
        (["--rendezvous", "a:1"], "--rendezvous is for a run on several nodes"),
        (["--nodes", "2", "--node-rank", "2", "--rendezvous", "a:1"], "--node-rank 2 is out of range for 2 nodes"),
        (["--nodes", "2", "--node-rank", "0", "--rendezvous", "a"], "'a' is not of the form HOST:PORT"),
        (["--nodes", "2", "--node-rank", "0", "--rendezvous", "a:x"], "'a:x' is not of the form HOST:PORT"),
    ],
)
def test_what_does_not_place_the_machine(
    tmp_path: Path,
    recipe: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    write_recipe: Any,
    words: list[str],
    said: str,
) -> None:
    assert main(["run", str(write_recipe(recipe)), *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown and len(shown.splitlines()) == 2  # with what to type next


def test_three_nodes_for_two_processes(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], write_recipe: Any
) -> None:
    assert main(["run", str(write_recipe(recipe)), "--nodes", "3"]) == 3
    assert "do not spread evenly over 3 nodes" in capsys.readouterr().err


def test_another_launcher_has_placed_it(
    recipe: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    write_recipe: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["--nodes", "2", "--node-rank", "0", "--rendezvous", "a:1"]
    assert main(["run", str(write_recipe(recipe)), *words]) == 2
    assert "another launcher has started this process" in capsys.readouterr().err


def report(rank: int, *, lost_touch: bool = False, expected: bool = False, text: str = "a bug") -> dict[str, Any]:
    said = {"rank": rank, "time": float(rank), "lost_touch": lost_touch, "expected": expected, "text": text}
    said |= {"with_fewer_rows": False, "problems": [{"message": text, "where": "", "hint": ""}]}
    return {**said, "exit_code": 4 if expected else 1}


LOST = report(0, lost_touch=True, text="gloo: closed by peer")
TIMED_OUT = report(0, lost_touch=True, text="gloo: timed out waiting")


@pytest.mark.parametrize(
    ("ended", "code", "text", "again"),
    [
        ([Ended(), Ended()], 0, "", False),
        ([Ended(codes={"0": 1}, reports=[LOST]), Ended(codes={"1": 1}, reports=[report(1)])], 1, "a bug", True),
        ([Ended(codes={"0": 1}, reports=[LOST]), Ended(codes={"1": -9})], 1, "node, was killed by SIGKILL", True),
        ([Ended(codes={"0": 4}, reports=[report(0, expected=True)]), Ended(codes={"1": -9})], 4, "a bug", False),
        ([Ended(codes={"0": 1}, reports=[TIMED_OUT]), Ended(codes={"1": -9}, reaped=[1])], 1, "did not answer", True),
        ([Ended(codes={"0": 1}, reports=[TIMED_OUT]), Ended(codes={"1": -15})], 1, "did not answer", True),
        ([Ended(codes={"0": -6}), Ended(codes={"1": -9}, reaped=[1])], 1, "did not answer", True),  # as NCCL ends one
        ([Ended(codes={"0": -9}), Ended(codes={"1": -9}, reaped=[1])], 1, "process 1 of 2 was killed by", True),
        ([Ended(codes={"0": 1}, reports=[LOST]), None], 1, "launcher on node 1 does not answer", False),
        ([Ended(codes={"0": -9}), None], 1, "was killed by SIGKILL", False),
        ([Ended(codes={"0": 143}, asked=[15]), Ended(codes={"1": 143})], 143, "", False),
        ([Ended(codes={"0": 130}), Ended(codes={"1": -15})], 130, "", False),  # one was sent it; the other ends last
        ([Ended(codes={"0": -9}, asked=[15]), Ended(codes={"1": 143})], 1, "was killed by SIGKILL", False),
        ([Ended(codes={"0": 3}), Ended()], 3, "exit code 3 without a message", True),
        ([Ended(codes={"0": -15}), Ended(codes={"1": 3})], 3, "process 2 of 2, on another node, ended with exit", True),
        ([Ended(codes={"1": 3}, reaped=[0]), Ended()], 3, "exit code 3 without a message", True),  # NCCL stays stuck
        ([Ended(codes={"0": -15}), Ended(codes={"1": -9})], 1, "process 2 of 2, on another node, was killed by", True),
        ([Ended(codes={"0": -11}), Ended(codes={"1": -15})], 1, "SIGSEGV\n    its stack trace is on the first", True),
        ([Ended(codes={"1": -11}, begun=True), Ended()], 1, "SIGSEGV\n    its stack trace is in logs/rank-1.log", True),
        ([Ended(codes={"1": -11}), Ended()], 1, "SIGSEGV\n    fttool run", True),  # no run directory, and so no log
        ([Ended(codes={"0": -35}), Ended()], 1, "was killed by signal 35", True),
        ([Ended(codes={"0": -15}, reaped=[1], asked=[15]), Ended(codes={"1": -9})], 1, "did not answer", False),
        ([Ended(asked=[15], finished=True), Ended(finished=True)], 0, "", False),  # asked too late
        ([Ended(finished=True), Ended(codes={"1": -6})], 0, "", False),  # aborted at its exit: all was done
        ([Ended(codes={"0": 130, "1": -9}, reaped=[1], asked=[2, 2]), Ended()], 130, "", False),  # twice, and one stuck
        ([Ended(asked=[15]), Ended(codes={"1": -9}, reaped=[1])], 143, "", False),  # before the start
        ([Ended(codes={"0": -6}), Ended(codes={"1": -9})], 1, "process 2 of 2, on another node, was killed by", True),
        ([Ended(codes={"0": 143, "1": -6}, asked=[15]), Ended()], 143, "", False),  # aborted at its exit
        ([Ended(codes={"0": -6}), Ended(codes={"1": 3})], 3, "exit code 3 without a message", True),
        ([Ended(codes={"0": -6}, reports=[LOST]), None], 1, "launcher on node 1 does not answer", False),
        ([Ended(codes={"0": 1}, reports=[LOST], asked=[15]), None], 1, "launcher on node 1 does not answer", False),
    ],
)
def test_what_went_wrong_first(ended: list[Ended | None], code: int, text: str, again: bool) -> None:
    verdict = judge(ended, processes=2)
    assert (verdict.exit_code, verdict.again) == (code, again)
    assert text in verdict.text and bool(text) == bool(verdict.text)


def test_whatever_has_happened_there_is_a_verdict() -> None:
    """And none of success where the run has not finished."""
    codes: list[dict[str, int]] = [{}, *({"0": code} for code in (1, 3, 130, 143, -2, -6, -9, -11, -15, -35))]
    said = [[], [LOST], [TIMED_OUT], [report(0)], [report(0, expected=True)]]
    first = [
        Ended(codes=one, reports=reports if one else [], reaped=reaped, asked=asked, finished=finished and not one)
        for one, reports, reaped, asked, finished in product(codes, said, ([], [0]), ([], [2], [15]), (False, True))
    ]
    second = [None, Ended(), Ended(finished=True), Ended(codes={"1": -9}), Ended(codes={"1": -15}, reaped=[1])]
    for one, other in product(first, second):
        verdict = judge([one, other], processes=2)
        failed = bool(one.codes or (other is not None and other.codes)) and not one.finished
        assert bool(verdict.exit_code) or not failed, (one, other)
        assert bool(verdict.text) == bool(verdict.problems), (one, other)
