"""The loader's plan of an epoch."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from fttool.contracts.rows import Encoded
from fttool.errors import PluginError
from fttool.rows.loader import WithTargets, train_loader
from fttool.rows.tokens import TokenRows
from fttool.world import ALONE, World


class OneByOne:
    """Micro-batches of one row."""

    def plan(self, order: Sequence[int], epoch: int) -> list[list[Sequence[int]]]:
        return [[(row,)] for row in order]

    def collate(self, sequences: Any) -> dict[str, Any]:
        return {}


def test_an_epoch_of_another_length_is_refused() -> None:
    """The Trainer has counted the run's steps from the first: a resumed run would go on elsewhere."""
    rows = TokenRows()
    for row in range(6):
        rows.append(Encoded([row, row], [-100, row]), f"rows:{row}")
    loader = train_loader(rows, lambda epoch: range(3 + epoch // 2), OneByOne(), workers=0, world=ALONE)
    loader.set_epoch(1)
    assert list(loader.planned()) == [0, 1, 2]
    with pytest.raises(PluginError, match="plans 4 micro-batches for epoch 2, and 3 for the others"):
        loader.set_epoch(2)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 7, 12])
def test_all_processes_together_read_each_row_once_per_epoch(size: int, count: int) -> None:
    """And in the order of one process, turn by turn, all of them as often."""
    rows = TokenRows()
    for row in range(count):
        rows.append(Encoded([row, row], [-100, row]), f"rows:{row}")
    order = list(reversed(range(count)))
    worlds = [World(rank, size) for rank in range(size)]
    loaders = [train_loader(rows, lambda _: order, OneByOne(), workers=0, world=world) for world in worlds]
    for epoch in range(2):
        turns: list[list[Any]] = []
        for loader in loaders:
            loader.set_epoch(epoch)
            turns.append([batch["rows"] for batch in loader])
        assert {len(some) for some in turns} == {-(-count // size)}
        assert [rows for turn in zip(*turns, strict=True) for rows in turn if rows] == [[[row]] for row in order]


class Columns:
    """Batching that has ids alone."""

    def plan(self, order: Sequence[int], epoch: int) -> list[list[Sequence[int]]]:
        return [[(row,) for row in order]]

    def collate(self, sequences: Any) -> dict[str, torch.Tensor]:
        width = max(len(row.input_ids) for (row,) in sequences)
        return {"input_ids": torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for (row,) in sequences])}


def test_classes_become_targets_and_token_types_come_along() -> None:
    rows = TokenRows()
    rows.append(Encoded([5, 6], [-100] * 2, classes=("b",)), "rows:1")
    rows.append(Encoded([7, 8, 9], [-100] * 3, classes=("a",), token_types=[0, 1, 1]), "rows:2")
    batches = WithTargets(Columns(), lambda classes: torch.tensor(["ab".index(name) for (name,) in classes]))
    (batch,) = train_loader(rows, lambda _: range(2), batches, workers=0, world=ALONE)
    assert batch["targets"].tolist() == [1, 0] and batch["rows"] == [[0], [1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0], [0, 1, 1]]
    plain = batches.collate([[rows[0]]])
    assert "token_type_ids" not in plain and plain["targets"].tolist() == [1]
