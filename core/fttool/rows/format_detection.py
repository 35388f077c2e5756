"""Which formats read given rows, by trying each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fttool.contracts.rows import Example, Format, FormatContext
from fttool.contracts.strategy import Level
from fttool.plugins import Plugins
from fttool.rows.checks.columns import Columns
from fttool.rows.checks.noted import noted_row


def formats_that_read(
    plugins: Plugins, rows: Sequence[Mapping[str, Any]], level: Level
) -> Iterator[tuple[str, Example]]:
    """The formats for tasks of this level that take all of these rows, with what each makes of the first one."""
    for candidate in plugins.family("format"):
        if issubclass(candidate, Format) and candidate.serves(level):
            read = [reads(candidate, row, level) for row in rows]
            if read and read[0] and all(read):
                yield candidate.id(), read[0]


def reads(kind: type[Format], row: Mapping[str, Any], level: Level | None) -> Example | None:
    """What a format, with no option set, makes of a row; None where it leaves anything unread that means something."""
    try:
        return takes(kind(), row, level)  # pyright: ignore[reportAbstractUsage]
    except ValueError:  # the format has options that must be given
        return None


def takes(form: Format, row: Mapping[str, Any], level: Level | None) -> Example | None:
    """The same of a format with its options."""
    noted, turns, _ = noted_row(row)
    try:
        example = form.build(FormatContext(origin="", level=level))(noted, "")
    except ValueError:
        return None
    return None if Columns().count(noted, turns, (), example) else example
