"""Texts as sets of hashed words and pairs of words, and two numbers over them.

Hashing needs no vocabulary, so any language and any number of rows will do (Weinberger et al. 2009, "Feature Hashing
for Large Scale Multitask Learning", arXiv 0902.2206).
"""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Terms: TypeAlias = list[NDArray[np.int64]]
"""Of each text the hashes of its different words and pairs of words, each below `SIZE`."""
SIZE = 2**18
WORD = re.compile(r"\w+|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Words and marks, without regard to case."""
    return WORD.findall(text.casefold())


def hashed(texts: Sequence[str]) -> Terms:
    """The terms of each text; `zlib.crc32`, so that they are the same in every process."""
    made: Terms = []
    for text in texts:
        words = words_of(text)
        terms = {*words, *map(" ".join, pairwise(words))}
        made.append(np.array(sorted({zlib.crc32(term.encode("utf-8", "surrogatepass")) % SIZE for term in terms}), int))
    return made


def effective_number(terms: Terms) -> float:
    """How many texts that share nothing would be as different as these: the Vendi score.

    The exponential of the entropy of the eigenvalues of K/n, where K (n, n) holds the cosines of the texts, with terms
    weighted by how rare they are: n for texts that share no term, 1 for n times the same one. Friedman and Dieng 2023,
    "The Vendi Score", arXiv 2210.02410.
    """
    columns, places = np.unique(np.concatenate([np.zeros(0, int), *terms]), return_inverse=True)
    rows = np.repeat(np.arange(len(terms)), [len(one) for one in terms])
    having = np.bincount(places, minlength=len(columns))
    weights = np.log(1 + len(terms) / having)
    kernel = np.zeros((len(terms), len(terms)))
    np.fill_diagonal(kernel, np.bincount(rows, weights[places] ** 2 * (having[places] == 1), minlength=len(terms)))
    shared = having[places] > 1  # what one text alone has makes it longer, and no two alike
    rows, number = rows[shared], (np.cumsum(having > 1) - 1)[places[shared]]
    values, width = weights[places[shared]], int((having > 1).sum())
    for start in range(0, width, 8192):  # so many columns at once, that the matrix stays small
        inside = (number >= start) & (number < start + 8192)
        part = np.zeros((len(terms), min(8192, width - start)))
        part[rows[inside], number[inside] - start] = values[inside]
        kernel += part @ part.T
    norms = np.sqrt(np.diag(kernel))
    norms[norms == 0] = 1.0
    kernel /= np.outer(norms, norms)
    np.fill_diagonal(kernel, 1.0)  # of an empty text too
    values = np.linalg.eigvalsh(kernel / len(terms))
    values = values[values > 1e-12]
    return float(np.exp(-np.sum(values * np.log(values))))


def told_apart(one: Terms, other: Terms, seed: int) -> float:
    """How well two sets of texts can be told apart: the area under the ROC curve, 0.5 for not at all and 1 for always.

    By naive Bayes over the terms, each text judged by a classifier that has not seen it (two folds). A two-sample test
    by classifier: Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests", arXiv 1610.06545.
    """
    rng = random.Random(seed)
    shuffled = [rng.sample(range(len(side)), len(side)) for side in (one, other)]
    folds = [[order[part::2] for part in range(2)] for order in shuffled]
    areas: list[float] = []
    for judged in range(2):
        learned = [[side[place] for place in folds[index][1 - judged]] for index, side in enumerate((one, other))]
        asked = [[side[place] for place in folds[index][judged]] for index, side in enumerate((one, other))]
        weights = log_odds(*learned)
        scores = [np.array([weights[terms].mean() if len(terms) else 0.0 for terms in side]) for side in asked]
        areas.append(area_under_curve(scores[0], scores[1]))
    return sum(areas) / len(areas)


def log_odds(one: Terms, other: Terms) -> NDArray[np.float64]:
    """Of each term how much likelier it is in a text of the first set than in one of the second. Shape (SIZE,)."""
    shares = [
        (np.bincount(np.concatenate([np.zeros(0, int), *side]), minlength=SIZE) + 0.5) / (len(side) + 1)
        for side in (one, other)
    ]
    return np.log(shares[0]) - np.log(shares[1])


def area_under_curve(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """How often a positive score is above a negative one, a tie counting half (Mann and Whitney's U)."""
    if not len(positive) or not len(negative):
        return 0.5
    ranked = np.sort(negative)
    below = np.searchsorted(ranked, positive, side="left")
    not_above = np.searchsorted(ranked, positive, side="right")
    return float((below + not_above).sum() / 2 / len(positive) / len(negative))


def telling_words(one: Sequence[str], other: Sequence[str], most: int = 5) -> list[str]:
    """Words by which texts of the first set are known from those of the second, the most telling first."""
    counts = [Counter(word for text in side for word in set(words_of(text))) for side in (one, other)]

    def weight(word: str) -> float:
        shares = [(count[word] + 0.5) / (len(side) + 1) for count, side in zip(counts, (one, other), strict=True)]
        return float((shares[0] - shares[1]) * np.log(shares[0] / shares[1]))

    often = [word for word, count in counts[0].items() if count / len(one) > counts[1][word] / max(1, len(other))]
    return sorted((word for word in often if len(word) > 1), key=lambda word: (-weight(word), word))[:most]
