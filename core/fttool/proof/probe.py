"""A few rows of a run, and what the run's model says of one of them in the company of others.

Rows go through the run's own collator and score, so a probe sees what an update will see.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fttool.contracts.rows import Encoded
from fttool.errors import FttoolError, PluginError, Problem, gist
from fttool.machine import ran_out_of_memory
from fttool.training.evaluation import Score, model_inputs

LONGEST = 64
"""Tokens of the longest probe."""
ROWS = 4
"""Rows that a probe is made of."""

Sequences = Sequence[Sequence[Encoded]]


class Uncomputed(Exception):  # noqa: N818 - a finding, not an error
    """What the model raised instead of saying something."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the model said of one row."""

    logits_NV: Tensor
    losses_N: Tensor

    def logits_differ(self, other: Said, first: int | None = None) -> float:
        """The largest difference of a logit in the `first` predictions, or in all; NaN where there is no number.

        Logits that are infinite in both, as those of masked tokens are, are equal.
        """
        ours, theirs = self.logits_NV[:first], other.logits_NV[:first]
        return float(torch.where(ours == theirs, 0.0, (ours - theirs).abs()).max())

    def losses_differ(self, other: Said) -> float:
        """The largest difference of a loss."""
        return float((self.losses_N - other.losses_N).abs().max())

    def parts(self, rows: Iterable[Encoded]) -> Iterator[Said]:
        """What is said of each of these rows, where all is said of them here, one after the other."""
        start = 0
        for row in rows:
            end = start + len(row.input_ids) - 1  # a row's first token is not predicted
            yield Said(self.logits_NV[start:end], self.losses_N[start:end])
            start = end

    @property
    def size(self) -> float:
        """The largest of the best logits of each prediction."""
        return float(self.logits_NV.amax(-1).abs().max())


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The model, the run's rows, and the way from the one to the other."""

    model: Any
    score: Score
    collate: Callable[[Sequences], Any]
    rows: Sequence[Encoded]
    """What is learned from."""
    lengths: Sequence[int]
    """Tokens of each row."""
    positions: int | None
    """Tokens that the model has positions for, where that is known."""
    device: torch.device

    @cached_property
    def long(self) -> list[Encoded]:
        """The beginnings of the longest rows, of at most `LONGEST` tokens; few rows stand twice."""
        longest = heapq.nlargest(ROWS, range(len(self.rows)), key=self.lengths.__getitem__)
        limit = min(LONGEST, self.positions or LONGEST)
        return [beginning(self.rows[row], limit) for row in islice(cycle(longest), ROWS)]

    @cached_property
    def short(self) -> list[Encoded]:
        """The same, of at most half the tokens of the longest: two of them together are no longer than it."""
        half = max(2, len(self.long[0].input_ids) // 2)
        return [beginning(row, half) for row in self.long]

    @cached_property
    def uncut(self) -> list[Encoded]:
        """A short row, and one of twice as many tokens or of about `LONGEST` where there is one; neither is cut."""
        by_length = sorted(range(len(self.rows)), key=self.lengths.__getitem__)
        shortest = self.lengths[by_length[0]]
        few = [row for row in by_length if self.lengths[row] <= max(LONGEST, 2 * shortest)]
        return [replace(self.rows[few[0]]), replace(self.rows[few[-1]])]

    def among(self, sequences: Sequences, row: Encoded) -> Said:
        """Of `row`, one of those in `sequences`: each of its tokens but the first is predicted, and none of others.

        Raises `PluginError` where batching loses a label.
        """
        said = self.ask(
            [[labelled(member, None if member is row else 0) for member in sequence] for sequence in sequences]
        )
        wanted, got = len(row.input_ids) - 1, len(said.losses_N)
        if got != wanted:
            message = f"a row of {wanted} labels has {got} of them once it is collated with others"
            hint = "all labels must stay but that of a row's first token; tell the plugin's authors"
            raise PluginError(Problem(message, hint=hint, key=("batching",)))
        return said

    def ask(self, sequences: Sequences) -> Said:
        """Of all that has labels; raises `Uncomputed` for whatever goes wrong but memory."""
        batch = model_inputs(self.collate(sequences), self.device)
        seed(self.device)
        try:
            predictions = self.score(self.model, batch)
        except FttoolError:
            raise
        except Exception as fault:
            if ran_out_of_memory(fault):
                raise
            raise Uncomputed(gist(fault)) from fault
        return Said(predictions.logits_NV.detach(), predictions.losses_N.detach())


def beginning(row: Encoded, length: int) -> Encoded:
    """A row of its own with the first tokens of `row`."""
    types = None if row.token_types is None else row.token_types[:length]
    return replace(row, input_ids=row.input_ids[:length], labels=row.labels[:length], token_types=types)


def labelled(row: Encoded, first: int | None = None) -> Encoded:
    """The row with a label at each of its `first` tokens, or at all; at no other one."""
    learned = row.input_ids[:first]
    return replace(row, labels=[*learned, *[-100] * (len(row.input_ids) - len(learned))])


def joined(first: Encoded, second: Encoded) -> Encoded:
    """One row of two; each token of the second but its first has a label."""
    ids = [*first.input_ids, *second.input_ids]
    return Encoded(ids, [-100] * (len(first.input_ids) + 1) + second.input_ids[1:])


def exchanged(row: Encoded, among: Sequence[Encoded], since: int = 0) -> Encoded:
    """The row with another token in each place from `since` on, of those that it and the rows `among` have."""
    known = sorted({token for encoded in (row, *among) for token in encoded.input_ids})
    if len(known) == 1:
        known.append(known[0] - 1 if known[0] else 1)
    follower = dict(zip(known, [*known[1:], known[0]], strict=True))
    ids = [*row.input_ids[:since], *(follower[token] for token in row.input_ids[since:])]
    labels = [label if label == -100 else token for token, label in zip(ids, row.labels, strict=True)]
    return replace(row, input_ids=ids, labels=labels)


def seed(device: torch.device) -> None:
    """Let a model that draws while it evaluates, as hashed attention does, draw the same each time."""
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    if device.type == "cuda":
        torch.cuda.manual_seed(0)
