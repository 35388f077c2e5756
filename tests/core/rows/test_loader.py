"""The loader's plan of an epoch."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from fttool.errors import PluginError
from fttool.families import Encoded
from fttool.rows.data import TokenRows
from fttool.rows.loader import WithTargets, train_loader
from fttool.training.world import ALONE


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
