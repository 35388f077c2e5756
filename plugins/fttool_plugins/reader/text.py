"""Text files: a row for each line, each paragraph, or the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from typing_extensions import override

from fttool.api import MAX_ROW_BYTES, DataError, RawRows, Reader, ReaderContext, RowFile, RowSource, open_rows


class TextLines(Reader):
    """Plain text (`.txt`, `.md`): rows with the one column `text`. The run says what a row was made of.

    Blank lines are not rows, and paragraphs are what stands between them.
    """

    name: Literal["text"] = "text"
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md")
    rows: Literal["line", "paragraph", "document"] = "line"
    """What becomes a row: each line, each paragraph with its line breaks, or the whole file."""

    @override
    def build(self, ctx: ReaderContext) -> RowSource:
        def rows(path: Path) -> RawRows:
            with open_rows(path) as file:
                head = file.head()
                for text in _texts(file, self.rows):
                    ctx.note(f"rows that are a {self.rows} of text")
                    yield f"{path}:{file.line}", {"text": text}
                    file.rows += 1
                if not file.rows:
                    what = "has only blank lines" if head else "is empty"
                    raise DataError(f"the file {what}", where=str(path), hint="write text into it")

        return rows


def _texts(file: RowFile, rows: str) -> Iterator[str]:
    """The text of each row; `file.line` is where it starts."""
    gathered: list[str] = []
    size = 0
    for number, line in enumerate(file.text_lines(), start=1):
        if line.strip() and not gathered:
            file.line, size = number, 0
        if rows == "line":
            if line.strip():
                yield line.rstrip("\r\n")
        elif line.strip() or (rows == "document" and gathered):
            gathered.append(line)
            size += len(line)
            if size > MAX_ROW_BYTES:
                raise file.error(f"the {rows} is longer than {MAX_ROW_BYTES:,} characters", "split it")
        elif gathered:
            yield "".join(gathered).rstrip()
            gathered = []
    if gathered:
        yield "".join(gathered).rstrip()
