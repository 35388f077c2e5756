"""Texts that are almost the same, found without comparing each with each other one.

Two texts are as alike as their shingles, the overlapping pieces of a few characters: the Jaccard similarity is the
number of shingles they share over the number of all that they have. MinHash signatures (Broder 1997, "On the
resemblance and containment of documents") in bands (locality-sensitive hashing) name the few pairs that may be alike,
and each of those is then compared exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fttool.api import Track

Hashes: TypeAlias = NDArray[np.uint64]

HASHES = 128
"""In a signature; its estimate of a similarity is off by 1/√128 = 0.09 at most, usually."""
MISSED = 1e-4
"""How often a pair that is exactly as alike as the threshold may share no band, and be missed."""
RECENT = 4096
"""Rows whose shingles are held for the exact comparison; those of others are made again."""


def near_duplicates(
    texts: Sequence[str],
    threshold: float,
    size: int,
    seed: int,
    *,
    apart: Sequence[object] | None = None,
    track: Track = lambda items, what: items,
) -> list[int | None]:
    """For each text the index of the first earlier one, of those that are kept, to which it is alike; None to keep it.

    A text without characters is kept. Two are compared where `apart` has the same for both, or None for the first.
    """
    groups: Sequence[object] = [None] * len(texts) if apart is None else apart

    @lru_cache(RECENT)
    def shingles(index: int) -> Hashes:
        return hashed_shingles(texts[index], size)

    bands = banded(signatures(map(shingles, track(range(len(texts)), "comparing rows")), len(texts), seed), threshold)
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)
    """(band, its bucket) → the texts in there that are kept, of the buckets with more than one text."""
    found: list[int | None] = []
    for index, buckets in enumerate(bands):
        shared = [(band, int(bucket)) for band, bucket in enumerate(buckets) if bucket >= 0] if texts[index] else []
        suspects = sorted(
            {other for place in shared for other in kept[place] if groups[other] in (None, groups[index])}
        )
        first = next((one for one in suspects if jaccard(shingles(one), shingles(index)) >= threshold), None)
        found.append(first)
        for place in shared if first is None else ():
            kept[place].append(index)
    return found


def hashed_shingles(text: str, size: int) -> Hashes:
    """A hash of each different piece of `size` characters, sorted; of a shorter text one of all of it. Shape (S,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    size = max(1, min(size, len(codes)))
    total = np.zeros(len(codes) - size + 1, dtype=np.uint64)
    for place in range(size):  # Horner's rule over all pieces at once, modulo 2^64
        total = total * np.uint64(0x9E3779B97F4A7C15) + codes[place : len(codes) - size + 1 + place]
    return np.unique(_mixed(total))


def _mixed(values: Hashes) -> Hashes:
    """Hashes whose bits all depend on all bits of the values (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def signatures(shingles: Iterator[Hashes], count: int, seed: int) -> NDArray[np.uint32]:
    """The MinHash signature of each set of shingles: the least value under each of `HASHES` functions. Shape (N, H)."""
    draw = np.random.default_rng(seed)
    factors = draw.integers(2**64, size=(HASHES, 1), dtype=np.uint64) | np.uint64(1)
    offsets = draw.integers(2**64, size=(HASHES, 1), dtype=np.uint64)
    made = np.zeros((count, HASHES), dtype=np.uint32)
    for row, hashes in enumerate(shingles):
        if len(hashes):
            made[row] = ((factors * hashes + offsets) >> np.uint64(32)).min(axis=1)
    return made


def banded(made: NDArray[np.uint32], threshold: float) -> NDArray[np.int64]:
    """The bucket of each row in each band, −1 where it is alone there. Shape (N, B)."""
    width = band_width(threshold)
    count = HASHES // width
    bands = made[:, : count * width].reshape(len(made), count, width)
    found = np.full(bands.shape[:2], -1, dtype=np.int64)
    for band in range(bands.shape[1]):
        _, bucket, counts = np.unique(bands[:, band], axis=0, return_inverse=True, return_counts=True)
        bucket = bucket.reshape(-1)
        found[:, band] = np.where(counts[bucket] > 1, bucket, -1)
    return found


def band_width(threshold: float) -> int:
    """The most hashes in a band with which a pair at the threshold is missed no more often than `MISSED`."""
    missed = {width: (1 - threshold**width) ** (HASHES // width) for width in range(1, 33)}
    return max((width for width, share in missed.items() if share <= MISSED), default=1)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Shared shingles over all shingles of two sorted sets."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / max(1, len(one) + len(other) - shared)
