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
        starts, lengths = runs(codes[length:] == codes[:-length])
        enough = max(times * length, longest + 1) - length
        loops = (
            run + length
            for start, run in sorted(zip(starts, lengths, strict=True), key=lambda found: -found[1])
            if run >= enough and any(map(str.isalpha, text[start : start + length]))
        )
        longest = next(loops, longest)
    return longest


def runs(same: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Where each run of True begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    return edges[::2].tolist(), (edges[1::2] - edges[::2]).tolist()
