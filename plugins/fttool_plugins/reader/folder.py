"""A folder of text files: one row a file, labelled with the name of the folder that it lies in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from typing_extensions import override

from fttool.api import (
    MAX_ROW_BYTES,
    DataError,
    RawRows,
    Reader,
    ReaderContext,
    RowSource,
    files_below,
    folder_entries,
    steady_file,
)

NO_TEXTS = (
    *(".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz"),
)
"""Suffixes of files that hold many rows, or are packed: read as one text, they would teach their punctuation."""
Encoding: TypeAlias = Literal[
    "utf-8",
    "utf-16",
    "latin-1",
    "windows-1252",
    "iso-8859-2",
    "iso-8859-15",
    "windows-1250",
    "windows-1251",
    "koi8-r",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-jp",
    "euc-kr",
]
"""Python knows more; a closed list is what an editor completes and a schema can check."""


class Folder(Reader):
    """A folder of text files: a row for each file, with its `text`, and with the name of the folder that it lies in as
    its `label`: `mails/ham/0001.txt` becomes `{"text": "…", "label": "ham"}`.

    Files that lie in the folder itself have no label. Hidden files and folders are not rows. A file of each label is
    read in turn, so that the first rows hold all labels.
    """

    name: Literal["folder"] = "folder"
    encodings: Annotated[tuple[Encoding, ...], Field(min_length=1)] = ("utf-8",)
    """Encodings of the files: the first that a file fits is taken, and the run counts how many others than UTF-8 took.
    `latin-1` fits all bytes, so it comes last."""

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        def rows(folder: Path) -> RawRows:
            if not folder.is_dir():
                raise DataError("this is a file, not a folder", where=str(folder), hint="leave `reader` out")
            by_label = {label: iter(files) for label, files in _files(folder).items()}
            for files in zip_longest(*by_label.values()):
                for label, file in zip(by_label, files, strict=True):
                    if file is not None:
                        text = _text(file, self.encodings, ctx.note)
                        yield str(file), {"text": text, **({"label": label} if label else {})}

        return rows


def _files(folder: Path) -> dict[str, list[Path]]:
    """The files of each label; of the label "" where they lie in the folder itself."""
    files: dict[str, list[Path]] = {}
    for entry in folder_entries(folder):
        label = entry.name if entry.is_dir() else ""
        files.setdefault(label, []).extend(files_below(entry) if label else [entry])
    if not files:
        raise DataError("the folder is empty", where=str(folder), hint="a folder per label, a text file per row")
    empty = [label for label, texts in files.items() if not texts]
    if empty:
        hint = "put its rows there, or remove it"
        raise DataError("the folder of this label is empty", where=str(folder / empty[0]), hint=hint)
    if "" in files and len(files) > 1:
        hint = "move it into the folder of its label, or out of the way"
        raise DataError("this file lies beside the folders of the labels", where=str(files[""][0]), hint=hint)
    return files


def _text(file: Path, encodings: Sequence[str], note: Callable[[str], None]) -> str:
    if file.suffix.lower() in NO_TEXTS:
        hint = "does it hold rows? name it as the path, not the folder; or move it out of the folder"
        raise DataError(f"by its name this is not a text file ({file.suffix})", where=str(file), hint=hint)
    with steady_file(file) as stream:
        raw = stream.read(MAX_ROW_BYTES + 1)
    if len(raw) > MAX_ROW_BYTES:
        raise DataError(f"the file is longer than {MAX_ROW_BYTES:,} bytes", where=str(file), hint="split it")
    for encoding in encodings:
        try:
            text = raw.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise DataError("the text contains a NUL character", where=str(file), hint="is it a text file?")
        if encoding != "utf-8":
            note(f"files read as {encoding}")
        return text
    tried = " nor in ".join(encodings)
    more = ", ".join(f'"{tried_next}"' for tried_next in dict.fromkeys((*encodings, "windows-1252", "latin-1")))
    hint = f'convert it, or set reader = {{ name = "folder", encodings = [{more}] }}: the first that fits is taken'
    raise DataError(f"the file is not in {tried}", where=str(file), hint=hint)
