"""Arrow's own files and streams, and what `datasets` saves to disk, which is a folder of streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal

from typing_extensions import override

from fttool.api import DataError, RawRows, Reader, ReaderContext, RowSource, folder_entries, steady_file
from fttool_plugins.reader.columnar import batch_rows, decoded

if TYPE_CHECKING:
    import pyarrow as pa

FILE = b"ARROW1"
"""The first bytes of an Arrow file; a stream has none of its own."""
SAVED, SAVED_PARTS = "state.json", "dataset_dict.json"
"""What `datasets` writes into a folder beside its Arrow files, and beside folders of them."""


class Arrow(Reader):
    """Arrow files and streams (`.arrow`, `.feather`), or a folder that `Dataset.save_to_disk` wrote.

    Values are read as the `parquet` reader does.
    """

    name: Literal["arrow"] = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather")

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        def rows(path: Path) -> RawRows:
            for file in _saved(path) if path.is_dir() else [path]:
                with steady_file(file) as stream:
                    yield from batch_rows(file, decoded(file, _batches(stream)))

        return rows


def is_saved(folder: Path) -> bool:
    """Whether `datasets` has saved a dataset, or several, into this folder."""
    return any((folder / name).is_file() for name in (SAVED, SAVED_PARTS))


def _saved(folder: Path) -> list[Path]:
    if (folder / SAVED_PARTS).is_file():
        names = ", ".join(f"'{entry}'" for entry in folder_entries(folder) if entry.is_dir())
        raise DataError("this folder holds several datasets", where=str(folder), hint=f"name one of them: {names}")
    files = [entry for entry in folder_entries(folder) if entry.suffix == ".arrow"]
    if not files:
        raise DataError("the folder holds no Arrow files", where=str(folder), hint="name a file, or leave `reader` out")
    return files


def _batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    is_file = file.read(len(FILE)) == FILE
    file.seek(0)
    if is_file:
        whole = pa.ipc.open_file(file)
        yield from (whole.get_batch(index) for index in range(whole.num_record_batches))
    else:
        yield from pa.ipc.open_stream(file)
