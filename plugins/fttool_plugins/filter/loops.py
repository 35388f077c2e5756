"""Loops in a text: stretches in which each character equals the one a period before it.

Nothing need be known of words or languages for that.
"""

from __future__ import annotations

import numpy as np


def longest_loop(text: str, *, times: int, period: int, at_least: int = 1) -> int:
    """Characters of the longest stretch in which a piece of up to `period` characters is said `times` in a row.

    0 where there is none of `at_least` characters, or where what repeats has no letter in it.
    """
    if not _may_loop(text, times, period, at_least):
        return 0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    longest = 0
    for length in range(1, min(period, len(codes) // times) + 1):
        enough = max(times * length, longest + 1, at_least)
        # Where a character is not the one a period later; what lies between two such places is one loop.
        ends = np.flatnonzero(codes[length:] != codes[:-length])
        ends = np.concatenate(([-1], ends, [len(codes) - length]))
        loops = ends[1:] - ends[:-1] - 1 + length
        for place in np.flatnonzero(loops >= enough):
            start = int(ends[place]) + 1
            if loops[place] > longest and any(map(str.isalpha, text[start : start + length])):
                longest = int(loops[place])
    return longest


def _may_loop(text: str, times: int, period: int, at_least: int) -> bool:
    """False where no loop can be: a quick look that spares most texts the long one.

    In a loop of a piece of p characters (times − 1) · p characters, and all but p of `at_least`, equal those a period
    later: `same` or more, whatever p is. A piece of half as many from every so many places then comes again within a
    period.
    """
    same = -(-at_least * (times - 1) // times)
    piece = max(1, (same + 1) // 2)
    return any(
        text.find(text[start : start + piece], start + 1, start + period + piece) >= 0
        for start in range(0, len(text) - piece, piece)
    )
