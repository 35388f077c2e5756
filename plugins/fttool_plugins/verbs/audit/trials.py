"""One short run of the built-in model on given rows of a recipe, for its held-out loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fttool.verbs import Loaded, Surveyed, recipe_of, short_run

MODEL = "builtin:tiny-chat"
BATCH, LONGEST, RATE = 8, 256, 2e-4
"""Rows of an update, tokens of a row, and the learning rate at its height."""

Rows: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]
"""Raw rows with their `file:line`."""


@dataclass(frozen=True)
class Trial:
    """Makes such runs: the recipe's task, formats and masking, and for all else what suits the model."""

    loaded: Loaded
    datasets: Sequence[Surveyed]
    place: int
    """The training dataset in whose format the held-out rows are."""
    updates: int
    folder: Path
    """An empty one, for the rows and the run directories."""

    def __call__(self, train: Sequence[Rows], held: Rows, seed: int) -> float:
        """The loss on the held-out rows after a run on the rows of `train`, by dataset."""
        own = self.folder / str(len(list(self.folder.iterdir())))
        own.mkdir()
        tables = [self._table(rows, index, own / f"train{index}.jsonl") for index, rows in enumerate(train) if rows]
        recipe = {
            "recipe": 1,
            "run": {
                "name": "run",
                "output": str(own),
                "seed": seed,
                "max_steps": self.updates,
                "micro_batch": BATCH,
                "global_batch": BATCH,
                "log_every": self.updates,
            },
            "model": {"source": MODEL, "template_difference": "allow"},
            "task": self._task(),
            "masking": _dumped(self.loaded.recipe.masking),
            "data": {"train": tables, "eval": [self._table(held, self.place, own / "held.jsonl")]},
            "batching": {"name": "padded", "max_length": LONGEST},
            "optimizer": {"name": "adamw", "lr": RATE},
            "schedule": {"name": "constant", "warmup": max(1, self.updates // 10)},
            "evaluation": {"metrics": ["loss"], "samples": 0},
            "precision": {"name": "fp32"},
        }
        return float(short_run(recipe_of(recipe))["eval"]["after"]["loss"])

    def _table(self, rows: Rows, index: int, file: Path) -> dict[str, Any]:
        """The rows written to `file`, read as their dataset is; a row that cannot be learned is left out."""
        file.write_text("".join(json.dumps(row) + "\n" for _, row in rows), encoding="utf-8")
        own = [table for key, table in self.loaded.recipe.data.datasets() if key[1] == "train"][index]
        table: dict[str, Any] = {"path": str(file), "format": _dumped(own.format)}
        return table | {"ignore": list(own.ignore), "on_bad_row": "drop", "max_bad_rows": max(2, len(rows))}

    def _task(self) -> dict[str, Any]:
        """The recipe's task; with all classes, so that a run without some rows tells the same ones apart."""
        given = _dumped(self.loaded.recipe.task)
        if self.loaded.recipe.task.learns in ("row", "word") and "labels" not in given:
            examples = [example for one in self.datasets if one.part == "train" for example in one.examples]
            given["labels"] = sorted({name for example in examples for name in example.labels or ()})
        return given


def _dumped(strategy: Any) -> dict[str, Any]:
    """A strategy as a recipe has it: its id and the options that somebody has said."""
    return {"name": strategy.id(), **strategy.model_dump(mode="json", exclude_unset=True, exclude_none=True)}
