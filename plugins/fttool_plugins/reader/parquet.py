"""Parquet files, row group by row group."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import DataError, RawRows, Reader, ReaderContext, RowSource, steady_file
from fttool_plugins.reader.columnar import ROWS_AT_ONCE, batch_rows


class Parquet(Reader):
    """Parquet, read a thousand rows at a time.

    A null that only the schema put there (a field that other rows have) is left out, on every level: a turn without
    calls has no `tool_calls`, not empty ones. Dates and times become text as ISO 8601 writes it.
    """

    name: Literal["parquet"] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        return _rows


def _rows(path: Path) -> RawRows:
    import pyarrow as pa
    from pyarrow import parquet

    with steady_file(path) as file:
        try:
            table = parquet.ParquetFile(file)
        except (pa.ArrowException, OSError) as fault:
            message = f"this is not a whole Parquet file: {str(fault).splitlines()[0]}"
            raise DataError(message, where=str(path), hint="copy or download it again") from None
        yield from batch_rows(path, table.iter_batches(batch_size=ROWS_AT_ONCE))
