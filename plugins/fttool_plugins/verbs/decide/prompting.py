"""What the base model makes of the evaluation rows with examples in its prompt, and without.

Rows are measured by the last answer of each, so that a conversation asks one thing. Examples are whole training rows
that stand before it: turns of a conversation, or texts with a blank line between.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fttool.api import Example, FttoolError, Metric
from fttool.verbs import Loaded, Measured, evaluate, measuring, with_overrides

BETWEEN = "\n\n"
"""Stands between examples of plain text."""
PLAIN = {"name": "prompt-completion", "plain": True}
"""Reads two texts as they stand, whether the model has a chat template or not."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """Scores of the base model."""

    shots: int
    """Examples in the prompt."""
    without: float
    shown: float
    """With them."""


def promptable(examples: Sequence[Example]) -> bool:
    """Whether a prompt can ask for what they teach: not for a class that a head tells, nor a text learned whole."""
    return all(one.labels is None and (one.messages or one.prompt) for one in examples)


def prompted(
    settings: Loaded,
    learned: Sequence[Example],
    measured: Sequence[Example],
    metric: Metric,
    *,
    shots: int,
    longest: int | None,
    folder: Path,
) -> Prompted:
    """With so many examples that the seed chooses, or fewer where a row would be longer than the model's window."""
    chat = bool(measured[0].messages)
    alike = [one for one in learned if bool(one.messages) == chat]
    chosen = random.Random(settings.recipe.run.seed).sample(alike, min(shots, len(alike)))
    asked = [one for one in measured if bool(one.messages) == chat]
    ask = _Asking(settings, metric, asked, longest, folder)
    without = ask([])
    while chosen:
        with suppress(FttoolError):  # where all rows are too long
            shown = ask(chosen)
            if shown.rows == without.rows:
                return Prompted(len(chosen), without.values[metric.id()], shown.values[metric.id()])
        chosen = chosen[: len(chosen) // 2]
    return Prompted(0, without.values[metric.id()], without.values[metric.id()])


@dataclass(frozen=True, slots=True)
class _Asking:
    """Measures the base model on rows with examples before them."""

    settings: Loaded
    metric: Metric
    asked: Sequence[Example]
    longest: int | None
    folder: Path

    def __call__(self, shown: Sequence[Example]) -> Measured:
        chat = bool(self.asked[0].messages)
        rows = [with_examples(one, shown) for one in self.asked]
        file = self.folder / f"shown-{len(shown)}.jsonl"
        file.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
        own = self.settings.recipe.batching.max_length
        longest = self.longest or own * (len(shown) + 1)
        changes = {
            "data.train": [{"path": str(file), "format": "messages" if chat else PLAIN}],
            "masking": "last-assistant" if chat else "completion",
            "batching": {"name": "padded", "max_length": longest, "too_long": "drop"},
            "run.micro_batch": 1,
            "run.global_batch": 1,
        }
        told = measuring(with_overrides(self.settings, changes), [file], [self.metric])
        return evaluate(told, own=False, quiet=True).measured[0]


def with_examples(example: Example, shown: Sequence[Example]) -> dict[str, Any]:
    """A row that asks what `example` asks last, with others and their answers before it."""
    if not example.messages:
        texts = [f"{one.prompt}{one.completion}{BETWEEN}" for one in shown]
        return {"prompt": "".join([*texts, example.prompt]), "completion": example.completion}
    turns = list(example.messages)
    while turns and turns[-1].get("role") != "assistant":
        turns.pop()
    start = next((place for place, turn in enumerate(turns) if turn.get("role") != "system"), len(turns))
    before = [turn for one in shown for turn in one.messages if turn.get("role") != "system"]
    return {"messages": [*turns[:start], *before, *turns[start:]]}
