"""A classifier that learns in seconds: logistic regression on hashed words and pairs of words.

It knows no meanings, but tells which words go with which class, and that without a model, a GPU or another package.
Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", arXiv 0902.2206.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from fttool.api import Track

BUCKETS = 2**20
"""Numbers that words and pairs have; two of them share one by chance, rarely two that matter."""
WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
WORDS = 200
"""Words of a text that are looked at."""
UPDATES = 25
"""Of L-BFGS, which then has long found the classes; more would only make it surer of them."""


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
        product = weights[self.columns] * self.values[:, None]
        return torch.zeros(count, weights.shape[1], dtype=weights.dtype).index_add_(0, self.rows, product)

    def transposed_times(self, errors: Tensor) -> Tensor:
        """The product of its transpose with `errors` (N, C). Shape (width, C)."""
        product = errors[self.rows] * self.values[:, None]
        return torch.zeros(self.width, errors.shape[1], dtype=errors.dtype).index_add_(0, self.columns, product)

    def of(self, kept: Tensor) -> Sparse:
        """Only the rows that are `kept`, shape (N,) of truth values, numbered anew."""
        mask = kept[self.rows]
        return Sparse((kept.cumsum(0) - 1)[self.rows[mask]], self.columns[mask], self.values[mask], self.width)


def features(texts: Sequence[str]) -> Sparse:
    """Words and pairs of words that two texts have, the rarer the more (tf-idf); each row of length 1."""
    counted = [Counter(_hashed(text)) for text in texts]
    rows = torch.tensor([row for row, counts in enumerate(counted) for _ in counts], dtype=torch.int64)
    hashes = torch.tensor([column for counts in counted for column in counts], dtype=torch.int64)
    counts = torch.tensor([count for counts in counted for count in counts.values()], dtype=torch.float64)
    _, columns, frequency = hashes.unique(return_inverse=True, return_counts=True)
    shared = frequency >= 2
    mask, number = shared[columns], shared.cumsum(0) - 1
    rows, counts, columns = rows[mask], counts[mask], columns[mask]
    values = (1 + counts.log()) * (1 + len(texts) / frequency[columns]).log()
    norms = torch.zeros(len(texts), dtype=torch.float64).index_add_(0, rows, values**2).sqrt()
    return Sparse(rows, number[columns], values / norms[rows], int(shared.sum()))


def _hashed(text: str) -> list[int]:
    found = WORD.findall(text.casefold())[:WORDS]
    pairs = (f"{one} {other}" for one, other in pairwise(found))
    return [zlib.crc32(piece.encode("utf-8", "surrogatepass")) % BUCKETS for piece in (*found, *pairs)]


def held_out_probabilities(
    texts: Sequence[str], classes: Sequence[int], folds: int, seed: int, track: Track = lambda items, what: items
) -> Tensor:
    """The probability of each class for each text, by a model that has not learned from that text. Shape (N, C)."""
    x, y = features(texts), torch.tensor(classes)
    count, width = len(texts), int(y.max()) + 1
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    # Of each class each fold gets its share: rows are dealt out class by class.
    fold = torch.empty(count, dtype=torch.int64)
    fold[shuffled[torch.argsort(y[shuffled], stable=True)]] = torch.arange(count) % folds
    probabilities = torch.zeros(count, width, dtype=torch.float64)
    for number in track(range(folds), "learning to tell the classes apart"):
        inside = fold != number
        weights = fitted(x.of(inside), y[inside], width)
        probabilities[~inside] = x.of(~inside).times(weights, int((~inside).sum())).softmax(1)
    return probabilities


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
