"""Loops in a text: stretches in which each character equals the one a period before it.

Nothing need be known of words or languages for that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def longest_loop(text: str, *, times: int, period: int) -> int:
    """Characters of the longest stretch in which a piece of up to `period` characters is said `times` in a row.

    0 where there is none, or where what repeats has no letter in it.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    longest = 0
    for length in range(1, min(period, len(codes) // times) + 1):
        start, run = longest_run(codes[length:] == codes[:-length])
        if run + length > longest and run + length >= times * length and _has_letter(text[start : start + length]):
            longest = run + length
    return longest


def longest_run(same: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run of True begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    if not len(edges):
        return 0, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    best = int(lengths.argmax())
    return int(starts[best]), int(lengths[best])


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))
