"""A classifier that learns in seconds: logistic regression on hashed words and pairs of words.

It knows no meanings, but tells which words go with which class, and that without a model, a GPU or another package.
Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", arXiv 0902.2206.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fttool.api import Track

BUCKETS = 2**20
"""Numbers that words and pairs have; two of them share one by chance, rarely two that matter."""
WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
WORDS = 200
"""Words of a text that are looked at."""
UPDATES = 25
"""Of L-BFGS, which then has long found the classes; more would only make it surer of them."""
LEARNED, FEWEST = 20_000, 100
"""Rows that a classifier learns from at most, and of each class at least as many as that, where there are more."""
AT_ONCE = 2**20
"""Numbers of a product that are in memory at once."""

Counts: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Hashed words and pairs of a text, and how often each is there; shapes (V,)."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse matrix, shape (N, `width`): the values of each row one row after the other."""

    rows: Tensor
    """Shape (V,)."""
    columns: Tensor
    """Shape (V,)."""
    values: Tensor
    """Shape (V,)."""
    width: int

    def times(self, weights: Tensor, count: int) -> Tensor:
        """The product with `weights` (width, C), of `count` rows. Shape (count, C)."""
        product = torch.zeros(count, weights.shape[1], dtype=weights.dtype)
        for part in self._parts(weights.shape[1]):
            product.index_add_(0, self.rows[part], weights[self.columns[part]] * self.values[part, None])
        return product

    def transposed_times(self, errors: Tensor) -> Tensor:
        """The product of its transpose with `errors` (N, C). Shape (width, C)."""
        product = torch.zeros(self.width, errors.shape[1], dtype=errors.dtype)
        for part in self._parts(errors.shape[1]):
            product.index_add_(0, self.columns[part], errors[self.rows[part]] * self.values[part, None])
        return product

    def _parts(self, classes: int) -> Iterator[slice]:
        """Stretches of the values, so short that their products with all classes fit into memory."""
        step = max(1, AT_ONCE // classes)
        return (slice(start, start + step) for start in range(0, len(self.values), step))

    def of(self, kept: Tensor) -> Sparse:
        """Only the rows that are `kept`, shape (N,) of truth values, numbered anew."""
        mask = kept[self.rows]
        rows = (kept.cumsum(0) - 1).int()[self.rows[mask]]
        return Sparse(rows, self.columns[mask], self.values[mask], self.width)


def features(counted: Sequence[Counts]) -> Sparse:
    """Words and pairs of words that two texts have, the rarer the more (tf-idf); each row of length 1."""
    empty = np.zeros(0, np.int32)
    numbers = torch.from_numpy(np.concatenate([empty, *(hashes for hashes, _ in counted)]))
    counts = torch.from_numpy(np.concatenate([empty, *(times for _, times in counted)])).double()
    lengths = torch.tensor([len(hashes) for hashes, _ in counted], dtype=torch.int64)
    rows = torch.repeat_interleave(torch.arange(len(counted), dtype=torch.int32), lengths)
    frequency = torch.bincount(numbers, minlength=BUCKETS)
    shared = frequency >= 2
    mask, number = shared[numbers], (shared.cumsum(0) - 1).int()
    rows, counts, numbers = rows[mask], counts[mask], numbers[mask]
    values = (1 + counts.log()) * (1 + len(counted) / frequency[numbers]).log()
    norms = torch.zeros(len(counted), dtype=torch.float64).index_add_(0, rows, values**2).sqrt()
    return Sparse(rows, number[numbers], values / norms[rows], int(shared.sum()))


def counted_words(text: str) -> Counts:
    """What a text is told by: its words and pairs of words, as numbers below `BUCKETS`."""
    found = WORD.findall(text.casefold())[:WORDS]
    pairs = (f"{one} {other}" for one, other in pairwise(found))
    counts = Counter(zlib.crc32(piece.encode("utf-8", "surrogatepass")) % BUCKETS for piece in (*found, *pairs))
    return np.array(list(counts), dtype=np.int32), np.array(list(counts.values()), dtype=np.int32)


def held_out_probabilities(
    counted: Sequence[Counts],
    classes: Sequence[int],
    folds: int,
    seed: int,
    track: Track = lambda items, what: items,
) -> Tensor:
    """The probability of each class for each text, by a model that has not learned from that text. Shape (N, C)."""
    x, y = features(counted), torch.tensor(classes)
    count, width = len(counted), int(y.max()) + 1
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    # Of each class each fold gets its share: rows are dealt out class by class.
    fold = torch.empty(count, dtype=torch.int64)
    fold[shuffled[torch.argsort(y[shuffled], stable=True)]] = torch.arange(count) % folds
    probabilities = torch.zeros(count, width, dtype=torch.float64)
    for number in track(range(folds), "learning to tell the classes apart"):
        outside = fold == number
        learned = _learned(shuffled[~outside[shuffled]], y)
        weights = fitted(x.of(learned), y[learned], width)
        probabilities[outside] = x.of(outside).times(weights, int(outside.sum())).softmax(1)
    return probabilities


def _learned(order: Tensor, y: Tensor) -> Tensor:
    """Which rows are learned from, of those in `order`: all, or of each class its share of `LEARNED`. Shape (N,)."""
    chosen = torch.zeros(len(y), dtype=torch.bool)
    for name in range(int(y.max()) + 1):
        rows = order[y[order] == name]
        chosen[rows[: max(FEWEST, round(LEARNED * len(rows) / len(order)))]] = True
    return chosen


def fitted(x: Sparse, y: Tensor, classes: int, strength: float = 1e-3) -> Tensor:
    """Weights of logistic regression with an L2 penalty, by L-BFGS. Shape (width, C)."""
    weights = torch.zeros(x.width, classes, dtype=torch.float64, requires_grad=True)
    wanted = torch.nn.functional.one_hot(y, classes).double()
    optimizer = torch.optim.LBFGS([weights], max_iter=UPDATES, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> float:
        with torch.no_grad():
            logits = x.times(weights, len(y))
            weights.grad = x.transposed_times((logits.softmax(1) - wanted) / len(y)) + strength * weights
            entropy = -(wanted * logits.log_softmax(1)).sum() / len(y)
            return float(entropy + strength / 2 * (weights**2).sum())

    if x.width:  # else no word is in two texts, and nothing can be learned
        optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return weights.detach()
