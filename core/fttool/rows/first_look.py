"""A look at the first rows of each dataset, with no model loaded: what `validate` says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from fttool.errors import DataError, Problem
from fttool.recipe.salvaging import Rest
from fttool.rows.datasets import ALL_MARKED, MARKED, MARKS_HINT, Reading, read_into
from fttool.rows.format_detection import settled_table
from fttool.rows.paths import row_obstacle
from fttool.rows.raw import raw_rows

Outcome: TypeAlias = "DataError | str"
"""What is wrong with the rows, or why they were skipped; empty where they are good."""


def first_rows(rest: Rest, limit: int) -> Iterator[tuple[Reading, Outcome]]:
    """The first rows of each dataset, without network or hashes, and what came of it."""
    loaded = rest.loaded
    for key, table in loaded.recipe.data.datasets():
        reading, outcome = Reading(table, key), _passed_over(rest, Reading(table, key))
        if not outcome:
            try:
                chosen, why = settled_table(loaded, table, key)
                reading = Reading(chosen, key, said=why)
                rows = islice(raw_rows(loaded, chosen, note=reading.note), limit)
                read_into(loaded, reading, ", ".join(table.paths), rows)
            except DataError as error:
                error.locate(loaded.where, key)
                outcome = error
            reading.complete = reading.bad.rows < limit
        yield reading, outcome


def _passed_over(rest: Rest, reading: Reading) -> str:
    if not (rest.unharmed(reading.key) and rest.unharmed(("task",))):
        return "the recipe is wrong there"
    if not reading.table.paths:
        return "on the hub"
    if reading.table.remote:
        return "over the network"
    return "cannot be read" if row_obstacle(rest.loaded, reading.table) else ""


def refuse_nothing_read(read: Sequence[Reading]) -> None:
    """Raise `DataError` where no row is left of those that were looked at: of all training or evaluation datasets
    together, or of any other one.
    """
    problems: list[Problem] = []
    for part, together in (("train", True), ("eval", True), ("general", False), ("retention", False)):
        readings = [reading for reading in read if reading.key[1] == part]
        for group in [readings] if together and readings else [[reading] for reading in readings]:
            if any(reading.examples or not reading.complete for reading in group):
                continue
            left_out = sum((reading.left_out + Counter(reading.bad.counts()) for reading in group), Counter[str]())
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            dropped = f" (dropped: {reasons})" if reasons else ""
            message = f"not one row of {part} '{group[0].table.dataset}' is good{dropped}"
            hint = MARKS_HINT if left_out.keys() <= {MARKED, ALL_MARKED} else "give it other rows"
            problems.append(Problem(message, hint=hint, key=group[0].key[: 2 if together else 3]))
    if problems:
        raise DataError(problems)
