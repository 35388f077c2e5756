"""Rows out of Arrow's record batches, for files in columns: plain values, without what only their schema put there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fttool.api import DataError, RawRows, as_row

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 1_000
"""Rows that are decoded together: few enough for memory, enough for speed."""


def batch_rows(path: Path, batches: Iterable[pa.RecordBatch]) -> RawRows:
    """The rows of record batches, numbered from 1 as their lines.

    Raises:
        DataError: while iterating, for a file that is damaged or cut off.
    """
    number = 0
    for batch in decoded(path, batches):
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            for row in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                number += 1
                yield f"{path}:{number}", as_row(row)
    if not number:
        raise DataError("the file has no rows", where=str(path), hint="write rows into it")


def decoded(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """The batches; a fault of the library becomes a `DataError` about the file."""
    import pyarrow as pa

    try:
        yield from batches
    except (pa.ArrowException, OSError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:
            raise  # the disk's fault, not the file's
        message = f"the file is damaged or cut off: {str(fault).splitlines()[0]}"
        raise DataError(message, where=str(path), hint="copy or download it again") from None
