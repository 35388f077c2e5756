"""The installed formats, those of plugins too, and what each makes of the first rows of a file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from fttool.contracts.rows import Format, FormatLook
from fttool.listing import Listed, of_family
from fttool.plugins import Plugins


def installed_formats() -> list[tuple[Listed, type[Format]]]:
    """Every format that can be loaded, with what is said of it."""
    return [(row, kind) for row, kind in of_family(Plugins.discover(), "format") if issubclass(kind, Format)]


def formats_tried(path: Path) -> FormatLook:
    """What each format that needs no option makes of the first rows of a file or folder.

    Raises:
        DataError: for a path that cannot be read.
    """
    from fttool.rows.files.source import read_rows
    from fttool.rows.format_detection import LOOKED_AT, built_alone, look

    rows = list(islice(read_rows(path), LOOKED_AT))
    return look(built_alone((kind for _, kind in installed_formats()), level=None), rows, level=None)
