"""The raw rows of a dataset: what its reader makes of the files and folders that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from fttool.contracts.recipe import RowsTable
from fttool.contracts.rows import RawRows, ReaderContext
from fttool.plain import is_table
from fttool.recipe.loaded import Loaded
from fttool.rows.files.source import named_paths
from fttool.yielded import built, misbehaved


def raw_rows(
    loaded: Loaded,
    table: RowsTable,
    paths: Iterable[Path] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> RawRows:
    """The raw rows of all that a dataset names, or of some `paths` of it, one after another; `note` counts what the
    reader says.

    Raises:
        DataError: while iterating, for what cannot be read and the first row that is broken.
    """
    source = built(table.reader, ReaderContext(note=note, **loaded.common))
    for path in named_paths(loaded.folder, table.paths) if paths is None else paths:
        for origin, row in source(path):
            if not (isinstance(origin, str) and is_table(row)):  # what a stranger's reader yields may be anything
                raise misbehaved(table.reader, f"yields {origin!r}, {row!r:.80} from {path}, not (origin, row)")
            yield origin, row
