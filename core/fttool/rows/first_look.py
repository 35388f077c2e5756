"""A look at the first rows of each dataset, with no model loaded: what `validate` says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from fttool.errors import DataError, Problem
from fttool.recipe.loaded import Loaded
from fttool.rows.datasets import ALL_MARKED, MARKED, MARKS_HINT, Reading, read_into
from fttool.rows.files.source import read_rows
from fttool.textfile import obstacle


def first_rows(loaded: Loaded, most: int) -> Iterator[tuple[Reading, str]]:
    """The first rows of each dataset, and why there are none: what `validate` looks at, without network or hashes.

    Raises `DataError` with what is wrong with all of them, once all have been looked at.
    """
    wrong: list[Problem] = []
    for key, table in loaded.recipe.data.datasets():
        found = Reading(table, key)
        path = loaded.folder / Path(table.path or "").expanduser()
        missing = "on the hub" if table.path is None else "" if path.exists() else _missing(path)
        if not missing:
            try:
                read_into(loaded, found, str(path), islice(read_rows(path, table.encodings), most))
            except DataError as error:
                error.locate(loaded.where, key)
                wrong += error.problems
                continue
            found.whole = found.bad.rows < most
        yield found, missing
    if wrong:
        raise DataError(wrong)


def _missing(path: Path) -> str:
    """That there is no such file yet, and the names most like it."""
    there = obstacle(path)
    near = f"; {there.hint}" if there is not None and there.hint.startswith("did you mean") else ""
    return f"no such file yet: {path}{near}"


def refuse_nothing_read(read: Sequence[Reading]) -> None:
    """Raise `DataError` where no row is left of those that were looked at: of all training or evaluation datasets
    together, or of any other one.
    """
    for part, together in (("train", True), ("eval", True), ("general", False), ("retention", False)):
        some = [one for one in read if one.key[1] == part]
        for group in [some] if together and some else [[one] for one in some]:
            if any(one.examples or not one.whole for one in group):
                continue
            left_out = sum((one.left_out + Counter(one.bad.counts()) for one in group), Counter[str]())
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            dropped = f" (dropped: {reasons})" if reasons else ""
            message = f"not one row of {part} '{group[0].table.dataset}' is good{dropped}"
            hint = MARKS_HINT if left_out.keys() <= {MARKED, ALL_MARKED} else "give it other rows"
            raise DataError(Problem(message, hint=hint, key=group[0].key[: 2 if together else 3]))
