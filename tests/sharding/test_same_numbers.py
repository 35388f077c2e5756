"""A run in several processes has the numbers of a run in one: losses, evaluations, rows, tokens, the final model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from .matrix import CELLS, Outcome, base, run_cells, write_rows

pytestmark = [pytest.mark.dist, pytest.mark.slow, pytest.mark.xdist_group("sharding")]

SHARDINGS: dict[str, tuple[dict[str, Any], int]] = {
    "ddp-2": ({"name": "ddp", "processes": 2}, 2),
    "fsdp-2": ({"name": "fsdp", "processes": 2}, 2),
    "ddp-4": ({"name": "ddp", "processes": 4}, 4),
}
IN_FOUR = ("padded", "packed", "freezing-gradual", "l2-init")
"""Cells that are made in four processes too."""


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> dict[str, dict[str, Outcome | str]]:
    """Sharding → cell → outcome; `none` is one process."""
    folder = tmp_path_factory.mktemp("sharding")
    common = base(
        fttool_tiny_model,
        write_rows(folder / "rows.jsonl", 45),
        write_rows(folder / "general.jsonl", 12, first=100),
    )
    found = {"none": run_cells(folder / "none", common, CELLS, {"name": "none"}, 1)}
    for name, (table, processes) in SHARDINGS.items():
        found[name] = run_cells(folder / name, common, IN_FOUR if processes == 4 else CELLS, table, processes)
    return found


def pairs() -> list[tuple[str, str]]:
    return [
        (sharding, cell)
        for sharding, (_, processes) in SHARDINGS.items()
        for cell in (IN_FOUR if processes == 4 else CELLS)
    ]


@pytest.mark.parametrize(("sharding", "cell"), pairs())
def test_a_cell_equals_one_process(outcomes: Any, sharding: str, cell: str) -> None:
    one, several = outcomes["none"][cell], outcomes[sharding][cell]
    assert isinstance(one, Outcome) and isinstance(several, Outcome), (one, several)
    assert len(one.metrics) == len(several.metrics) > 8 or cell == "early-stopping"
    for ours, theirs in zip(several.metrics, one.metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5), ours["step"]
    for key in ("steps", "epochs", "train_tokens", "label_tokens", "datasets", "best", "stopped_early"):
        expected = one.summary[key]
        assert several.summary[key] == (pytest.approx(expected, rel=1e-5) if key == "best" else expected)
    weights = [load_file(next((run.run_dir / "model").glob("*.safetensors"))) for run in (one, several)]
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_each_process_says_what_it_holds(outcomes: Any, sharding: str) -> None:
    ranks = outcomes[sharding]["padded"].summary["sharding"]["ranks"]
    assert ranks == outcomes["none"]["padded"].summary["sharding"]["ranks"] * SHARDINGS[sharding][1]
