"""Which part of a dataset's rows is read: `[:1000]`, `[10%:20%]`, as datasets of the hub have it behind a split."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from fttool.contracts.recipe import SLICE
from fttool.contracts.rows import RawRows


def sliced(split: str | None, read: Callable[[bool], RawRows]) -> RawRows:
    """The part of the rows that `split` names, or all of them; `read` reads them from the first one on.

    For percents they are read once more, to be counted; `read` is told so by False. A bound falls where
    `round(percent × rows / 100)` says, so that neighbouring slices share no row and leave none out.
    """
    match = SLICE.fullmatch(split or "[:]")
    assert match is not None  # the recipe's rules have looked
    begin, begin_percent, end, end_percent = match.groups()
    total = sum(1 for _ in read(False)) if begin_percent or end_percent else 0

    def place(bound: str | None, percent: str | None) -> int | None:
        return None if bound is None else round(int(bound) * total / 100) if percent else int(bound)

    rows = read(True)
    try:
        yield from islice(rows, place(begin, begin_percent), place(end, end_percent))
    finally:
        rows.close()
