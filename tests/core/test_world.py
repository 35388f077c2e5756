"""What one process of several asks of the others; the others are played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from fttool.world import ALONE, World

SEVERAL = World(rank=1, size=3)
OTHERS = ([1, 7], [2, 5])
"""The numbers of two other processes."""


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers meet those of the others."""
    how: dict[Any, Callable[[torch.Tensor], torch.Tensor]] = {
        dist.ReduceOp.SUM: lambda stacked: stacked.sum(0),
        dist.ReduceOp.MAX: lambda stacked: stacked.amax(0),
    }

    def all_reduce(mine: torch.Tensor, op: Any = dist.ReduceOp.SUM) -> None:
        mine.copy_(how[op](torch.stack([mine, *(mine.new_tensor(one) for one in OTHERS)])))

    monkeypatch.setattr(dist, "all_reduce", all_reduce)


@pytest.mark.usefixtures("reduced")
def test_numbers_of_all_are_added_or_the_largest_is_taken() -> None:
    assert SEVERAL.all_reduce_sums([10, 1], "cpu") == [13, 13] and SEVERAL.all_reduce_max([10, 1], "cpu") == [10, 7]
    mine = torch.tensor([0.5, 1.0])
    assert SEVERAL.all_reduce(mine).tolist() == [3.5, 13.0]
    assert mine.tolist() == [0.5, 1.0], "what is asked about is left as it is"


def test_what_each_has_comes_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_gather(found: list[Any], mine: Any) -> None:
        found[:] = ["first", mine, "last"]

    monkeypatch.setattr(dist, "all_gather_object", all_gather)
    assert SEVERAL.all_gather("mine") == ["first", "mine", "last"]


def test_they_wait_for_each_other_and_not_for_those_that_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(dist, "barrier", lambda: waited.append(1))
    SEVERAL.barrier()
    SEVERAL.leave()
    assert len(waited) == 2

    def gone() -> None:
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(dist, "barrier", gone)
    SEVERAL.leave()
    with pytest.raises(RuntimeError):
        SEVERAL.barrier()


def test_alone_it_answers_at_once() -> None:
    """No process group is open here: torch would raise."""
    values = torch.tensor([1.0])
    assert ALONE.all_reduce(values) is values and ALONE.all_reduce_sums([1, 2], "cpu") == ALONE.all_reduce_max(
        [1, 2], "cpu"
    ) == [1, 2]
    assert ALONE.all_gather("mine") == ["mine"]
    ALONE.barrier()
    ALONE.leave()


def test_the_environment_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert World.here() == ALONE and ALONE.first
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert World.here() == SEVERAL and not SEVERAL.first
