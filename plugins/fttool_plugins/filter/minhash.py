"""Texts that are almost the same, found without comparing each with each other one.

Two texts are as alike as their shingles, the overlapping pieces of a few characters: the Jaccard similarity is the
number of shingles they share over the number of all that they have. MinHash signatures (Broder 1997, "On the
resemblance and containment of documents") in bands (locality-sensitive hashing) name the few pairs that may be alike,
and each of those is then compared exactly. Signatures are made of many texts at once, and bands are compared by
sorting them, so that little is done text by text.
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
Places: TypeAlias = NDArray[np.int64]

HASHES = 128
"""In a signature; its estimate of a similarity is off by 1/√128 = 0.09 at most, usually."""
MISSED = 1e-4
"""How often a pair that is exactly as alike as the threshold may share no band, and be missed."""
RECENT = 4096
"""Rows whose shingles are held for the exact comparison; those of others are made again."""
CHARACTERS = 2**15
"""Characters of texts that are worked on at once: so many that their hashes stay in a processor's cache."""
PAD = "\U0010ffff"
"""What stands behind a text of fewer characters than a shingle; Unicode has promised that it is no character."""


def near_duplicates(
    texts: Sequence[str],
    threshold: float,
    size: int,
    seed: int,
    *,
    apart: Sequence[object] | None = None,
    ranks: Sequence[int] | None = None,
    track: Track = lambda items, what: items,
) -> list[int | None]:
    """For each text the index of the first earlier one, of those that are kept, to which it is alike; None to keep it.

    A text without characters is kept. Two are compared where `apart` has the same for both, or where the first has a
    lower rank; `ranks`, by default 1, do not fall, and texts of rank 0 are all kept.
    """
    groups = [None] * len(texts) if apart is None else apart
    levels = [1] * len(texts) if ranks is None else ranks

    @lru_cache(RECENT)
    def shingles(index: int) -> Hashes:
        return hashed_shingles(texts[index], size)

    def alike(one: int, other: int) -> bool:
        if levels[one] == levels[other] and groups[one] != groups[other]:
            return False
        return jaccard(shingles(one), shingles(other), threshold) >= threshold

    made = all_signatures(texts, size, seed, track)
    kept: dict[int, list[int]] = defaultdict(list)
    """Bucket → the texts in there that are kept, of the buckets with more than one text."""
    found: list[int | None] = [None] * len(texts)
    for index, buckets in shared_buckets(banded(made, band_width(threshold))):
        if not texts[index]:
            continue
        if levels[index]:
            suspects = np.array(sorted({other for bucket in buckets for other in kept[bucket]}), dtype=np.int64)
            near = (made[suspects] == made[index]).sum(axis=1) >= least_equal(threshold)
            found[index] = next((one for one in suspects[near].tolist() if alike(one, index)), None)
        for bucket in buckets if found[index] is None else ():
            kept[bucket].append(index)
    return found


def hashed_shingles(text: str, size: int) -> Hashes:
    """A hash of each different piece of `size` characters, sorted; of a shorter text one of all of it. Shape (S,)."""
    return np.unique(_pieces(text.ljust(size, PAD), size)) if text else np.zeros(0, dtype=np.uint64)


def _pieces(text: str, size: int) -> Hashes:
    """A hash of each piece of `size` characters, in their order. Shape (len(text) − size + 1,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    total = np.zeros(len(codes) - size + 1, dtype=np.uint64)
    for place in range(size):  # Horner's rule over all pieces at once, modulo 2^64
        total *= np.uint64(0x9E3779B97F4A7C15)
        total += codes[place : len(codes) - size + 1 + place]
    return _mixed(total)


def _mixed(values: Hashes) -> Hashes:
    """Hashes whose bits all depend on all bits of the values (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def all_signatures(texts: Sequence[str], size: int, seed: int, track: Track) -> NDArray[np.uint32]:
    """The MinHash signature of each text. Shape (N, HASHES)."""
    made = np.zeros((len(texts), HASHES), dtype=np.uint32)
    for start, end in track(list(_chunks(texts)), "comparing rows"):
        padded = [text.ljust(size, PAD) for text in texts[start:end]]
        ends = np.cumsum([len(text) for text in padded])
        whole = np.ones(int(ends[-1]), dtype=bool)  # pieces that begin in one text and end in the next are none
        for before in range(1, size):
            whole[ends - before] = False
        hashes = _pieces("".join(padded), size)[whole[: len(whole) - size + 1]]
        starts = np.concatenate([[0], ends[:-1]]) - (size - 1) * np.arange(len(padded))
        made[start:end] = signatures(hashes, starts, seed)
    return made


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Stretches of texts with about `CHARACTERS` characters: the first one's index, and the one behind the last."""
    start = characters = 0
    for index, text in enumerate(texts):
        characters += len(text)
        if characters >= CHARACTERS:
            yield start, index + 1
            start, characters = index + 1, 0
    if start < len(texts):
        yield start, len(texts)


def signatures(hashes: Hashes, starts: Places, seed: int) -> NDArray[np.uint32]:
    """MinHash signatures: of each set of shingles the least value under each of `HASHES` functions. Shape (N, HASHES).

    The sets follow each other in `hashes`, and begin at `starts`; none is empty.
    """
    draw = np.random.default_rng(seed)
    factors = draw.integers(2**32, size=HASHES, dtype=np.uint32) | np.uint32(1)
    offsets = draw.integers(2**32, size=HASHES, dtype=np.uint32)
    values = (hashes >> np.uint64(32)).astype(np.uint32)
    made = np.empty((HASHES, len(starts)), dtype=np.uint32)
    under = np.empty_like(values)
    for number in range(HASHES):
        np.multiply(values, factors[number], out=under)
        under += offsets[number]
        np.minimum.reduceat(under, starts, out=made[number])
    return made.T


def banded(made: NDArray[np.uint32], width: int) -> Hashes:
    """A hash of each band of `width` numbers of the signatures; two texts share a band where it is the same. Shape
    (N, HASHES // width).
    """
    count = made.shape[1] // width
    bands = made[:, : count * width].reshape(len(made), count, width).astype(np.uint64)
    keys = np.zeros(bands.shape[:2], dtype=np.uint64)
    for place in range(width):
        keys = _mixed(keys + bands[:, :, place] + np.uint64(0x9E3779B97F4A7C15))
    return keys


def shared_buckets(keys: Hashes) -> Iterator[tuple[int, list[int]]]:
    """The texts that share a band with another one, in their order, each with the numbers of the buckets it is in."""
    rows: list[Places] = [np.zeros(0, dtype=np.int64)]
    buckets: list[Places] = [np.zeros(0, dtype=np.int64)]
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        ranked = keys[order, band]
        same = np.zeros(len(keys) + 1, dtype=bool)  # as the text before it
        same[1:-1] = ranked[1:] == ranked[:-1]
        several = same[1:] | same[:-1]
        rows.append(order[several])
        buckets.append(np.cumsum(~same[:-1])[several] * keys.shape[1] + band)
    every, within = np.concatenate(rows), np.concatenate(buckets)
    order = np.argsort(every, kind="stable")
    every, within = every[order], within[order]
    texts, starts = np.unique(every, return_index=True)
    for text, found in zip(texts.tolist(), np.split(within, starts[1:]), strict=False):
        yield text, found.tolist()


def band_width(threshold: float) -> int:
    """The most hashes in a band with which a pair at the threshold is missed no more often than `MISSED`."""
    missed = {width: (1 - threshold**width) ** (HASHES // width) for width in range(1, 33)}
    return max((width for width, share in missed.items() if share <= MISSED), default=1)


def least_equal(threshold: float) -> float:
    """Fewest numbers that two signatures share at the threshold: five standard deviations below the mean, so that a
    pair is missed for it once in millions.

    Among many rows, long texts of one language share bands by chance: this tells them apart in no time.
    """
    return HASHES * threshold - 5 * (HASHES * threshold * (1 - threshold)) ** 0.5


def jaccard(one: Hashes, other: Hashes, at_least: float = 0.0) -> float:
    """Shared shingles over all shingles of two sorted sets; 0 where their sizes alone keep it below `at_least`."""
    if min(len(one), len(other)) < at_least * max(len(one), len(other)):
        return 0.0
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / max(1, len(one) + len(other) - shared)
