"""Contexts are coherent: whatever the family, a strategy knows the recipe's seed and folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main
from fttool.contracts import FAMILIES
from fttool.contracts.strategy import Context
from fttool.plugins import Plugins
from fttool.testing import run_recipe

ROWS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]} for n in range(4)
]


Seen = dict[str, list[Context]]
"""By family: the contexts that its strategies were built with."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Fills as strategies are built."""
    seen: Seen = {}

    def spied(build: Any) -> Any:
        def spy(self: Any, context: Context) -> Any:
            seen.setdefault(self.family, []).append(context)
            return build(self, context)

        return spy

    for family in FAMILIES:
        for strategy in Plugins.of().family(family):
            monkeypatch.setattr(strategy, "build", spied(strategy.build))
    return seen


def assert_coherent(seen: Seen, folder: Path) -> None:
    for family, contexts in seen.items():
        assert all(isinstance(context, Context) for context in contexts), family
        assert {(context.seed, context.folder) for context in contexts} == {(5, folder)}, family
        assert all(list(context.track([1, 2], "done")) == [1, 2] for context in contexts), family


def test_every_strategy_gets_the_seed_and_the_folder(seen: Seen, tmp_path: Path) -> None:
    """In a run, and where its model is measured afterwards."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 2, "seed": 5},
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "rows.jsonl"}], "eval_share": 0.25},
        "filters": ["exact-duplicates"],
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "regularizers": [{"name": "l2-init", "strength": 0.1}],
    }
    run = run_recipe(recipe, tmp_path)
    assert run.error is None and set(seen) == set(FAMILIES)
    assert_coherent(seen, tmp_path)
    seen.clear()
    assert main(["evaluate", str(run.run_dir), "-q"]) == 0
    assert {"model", "reader", "format", "masking", "batching", "precision", "task", "metric"} <= set(seen)
    assert_coherent(seen, tmp_path)
