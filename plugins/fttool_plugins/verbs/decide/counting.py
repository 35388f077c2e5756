"""How many tokens a request has with a long prompt and without it, taken from rows.

A request is what stands before a learned stretch of a row, and its answer is that stretch: with the recipe's masking,
each answer of a conversation is one. A fine-tuned model is asked that; a prompted one is told instructions and shown
examples before it, each of which is a whole request with its answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from fttool.api import DataError, Encoded, Example, UsageError
from fttool.verbs import Loaded, row_encoder

MOST = 1_000
"""Rows that are counted; of more, a sample of the seed."""
IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Means over the requests that rows hold, in tokens."""

    rows: int
    """That were counted."""
    requests: int
    prompt: float
    answer: float
    instructions: int = 0
    shots: int = 0

    @property
    def prompted(self) -> float:
        """Tokens of the prompt with instructions and examples."""
        return self.prompt + self.instructions + self.shots * (self.prompt + self.answer)

    @property
    def how(self) -> str:
        """Where the figures come from, in a sentence."""
        parts = [f"{self.shots} examples"] if self.shots else []
        parts += [f"instructions of {self.instructions:,} tokens"] if self.instructions else []
        more = f"; a prompted model is also given {' and '.join(parts)}" if parts else ""
        return f"tokens are means of {self.requests:,} requests in {self.rows:,} training rows{more}"


def count(
    loaded: Loaded, examples: Sequence[Example], tokenizer: Any, *, shots: int, instructions: Path | None
) -> Requests:
    """Of the recipe's training rows; `DataError` where there are none, or none that can be encoded."""
    if not examples:
        raise DataError("there are no rows to count", hint="fttool validate says what became of them")
    told = len(tokenizer(read_instructions(instructions))["input_ids"]) if instructions else 0
    chosen = random.Random(loaded.recipe.run.seed).sample(examples, min(MOST, len(examples)))
    encode, by_class = row_encoder(loaded, tokenizer), loaded.recipe.task.learns != "token"
    found: list[tuple[int, int]] = []
    counted = 0
    for example in chosen:
        try:
            encoded = encode(example)
        except ValueError:  # its learned part cannot be told: a run drops it, or ends on it
            continue
        counted += 1
        found += [_classified(example, encoded, tokenizer)] if by_class else requests_of(encoded.labels)
    if not found:
        raise DataError("no row has a part that is learned", hint="fttool preview shows what is learned of each row")
    return Requests(
        rows=counted,
        requests=len(found),
        prompt=fmean(prompt for prompt, _ in found),
        answer=fmean(answer for _, answer in found),
        instructions=told,
        shots=shots,
    )


def requests_of(labels: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of each learned stretch: how many tokens stand before it, and how many it has."""
    place = 0
    for learned, stretch in groupby(labels, key=lambda label: label != IGNORED):
        length = len(list(stretch))
        if learned:
            yield place, length
        place += length


def read_instructions(file: Path) -> str:
    """The text of what a prompt says beside its examples."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not text in UTF-8"
        raise UsageError(f"cannot read '{file}': {reason}", hint="name a text file: --instructions FILE") from fault


def _classified(example: Example, encoded: Encoded, tokenizer: Any) -> tuple[int, int]:
    """Of a row with classes: its text is the prompt, and a prompted model answers with the names of the classes."""
    answer = ", ".join(example.labels or ())
    return len(encoded.input_ids), len(tokenizer(answer, add_special_tokens=False)["input_ids"])
