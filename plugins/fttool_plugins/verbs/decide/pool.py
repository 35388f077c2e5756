"""The rows that short runs learn from and are measured on, as files have them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fttool.api import Example, UsageError
from fttool.verbs import Loaded, Surveyed, raw_dataset

MOST_MEASURED, MOST_RETAINED = 100, 60
"""Evaluation rows, and retention rows of each dataset, that are measured on."""
HELD_SHARE = 0.2
"""Of the training rows, so many are measured on where the recipe has no evaluation rows."""
FEWEST_MEASURED, FEWEST = 8, 16
"""Rows below which nothing is measured: to measure on, and to learn from."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one dataset."""

    name: str
    table: Mapping[str, Any]
    """How the recipe reads it, without where it is."""
    rows: Sequence[Mapping[str, Any]]

    def written(self, folder: Path) -> dict[str, Any]:
        """The table of these rows in a file of their own."""
        file = folder / f"{self.name}.jsonl"
        file.write_text("".join(json.dumps(row, default=str) + "\n" for row in self.rows), encoding="utf-8")
        most = max(2, len(self.rows))
        return {**self.table, "name": self.name, "path": str(file), "on_bad_row": "drop", "max_bad_rows": most}


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All of them."""

    train: Sequence[Part]
    """In the order of the seed, so that the first so many are a sample."""
    measured: Sequence[Part]
    retention: Sequence[Part]
    examples: Sequence[Example]
    """Training rows as they were read."""
    measured_examples: Sequence[Example]

    @property
    def rows(self) -> int:
        """Training rows."""
        return sum(len(part.rows) for part in self.train)

    def first(self, rows: int) -> list[Part]:
        """About so many training rows, from each dataset in proportion, at least one; fewer are among more."""
        share = rows / self.rows
        return [
            Part(name=part.name, table=part.table, rows=part.rows[: max(1, round(share * len(part.rows)))])
            for part in self.train
            if part.rows
        ]


def pooled(loaded: Loaded, datasets: Sequence[Surveyed]) -> Pool:
    """By the recipe's seed; `UsageError` where there are too few rows to measure anything."""
    rng = random.Random(loaded.recipe.run.seed)
    own = [one for one in datasets if one.part == "eval"]
    train = [one for one in datasets if one.part == "train"]
    aside: set[str] = set()
    every = [example for one in train for example in one.examples]
    if own:
        measured_examples = [example for one in own for example in one.examples]
        measured_examples = rng.sample(measured_examples, min(MOST_MEASURED, len(measured_examples)))
    else:
        measured_examples = rng.sample(every, min(MOST_MEASURED, int(HELD_SHARE * len(every))))
        aside = {example.origin for example in measured_examples}
    chosen = {example.origin for example in measured_examples}
    learned = [example for example in every if example.origin not in aside]
    if len(measured_examples) < FEWEST_MEASURED or len(learned) < FEWEST:
        message = f"{len(learned)} rows to learn from and {len(measured_examples)} to measure on are too few to measure"
        raise UsageError(message, hint=f"it takes {FEWEST} and {FEWEST_MEASURED}; leave --measure out")
    kept = {example.origin for example in learned}
    return Pool(
        train=[_part(loaded, one, kept, rng) for one in train],
        measured=[_part(loaded, one, chosen, rng, "measured-") for one in own or train],
        retention=[_sampled(loaded, one, rng) for one in datasets if one.part == "retention" and one.examples],
        examples=learned,
        measured_examples=measured_examples,
    )


def _sampled(loaded: Loaded, one: Surveyed, rng: random.Random) -> Part:
    names = [example.origin for example in one.examples]
    return _part(loaded, one, set(rng.sample(names, min(MOST_RETAINED, len(names)))), rng, "retained-")


def _part(loaded: Loaded, one: Surveyed, origins: set[str], rng: random.Random, prefix: str = "") -> Part:
    """The raw rows of these origins, shuffled."""
    table = next(table for key, table in loaded.recipe.data.datasets() if key == one.place)
    rows = [row for origin, row in raw_dataset(loaded, one.place) if origin in origins]
    rng.shuffle(rows)
    read = {"name": one.format, **table.format.model_dump(mode="json", exclude_unset=True, exclude_none=True)}
    read["name"] = one.format
    return Part(name=f"{prefix}{one.name}", table={"format": read, "ignore": list(table.ignore)}, rows=rows)
