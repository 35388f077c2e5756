"""The raw rows of a dataset: what its reader makes of the files and folders that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from fttool.contracts.recipe import RowsTable
from fttool.contracts.rows import RawRows, ReaderContext
from fttool.plain import is_table
from fttool.recipe.loaded import Loaded
from fttool.rows.files.remote import under_its_address
from fttool.rows.files.source import named_paths
from fttool.rows.slicing import sliced
from fttool.yielded import built, misbehaved


def raw_rows(
    loaded: Loaded,
    table: RowsTable,
    paths: Iterable[Path] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> RawRows:
    """The raw rows of a dataset: the part of them that its `split` names, or all rows of some `paths` of it; `note`
    counts what the reader says.

    Raises:
        DataError: while iterating, for what cannot be read and the first row that is broken.
    """
    if paths is None:
        named = named_paths(loaded.folder, table.paths)
        return sliced(table.split, lambda first: _all(loaded, table, named, note if first else lambda _: None))
    return _all(loaded, table, paths, note)


def _all(loaded: Loaded, table: RowsTable, paths: Iterable[Path], note: Callable[[str], None]) -> RawRows:
    source = built(table.reader, ReaderContext(note=note, **loaded.common))
    for path in paths:
        for origin, row in under_its_address(path, source(path)):
            if not (isinstance(origin, str) and is_table(row)):  # what a stranger's reader yields may be anything
                raise misbehaved(table.reader, f"yields {origin!r}, {row!r:.80} from {path}, not (origin, row)")
            yield origin, row
