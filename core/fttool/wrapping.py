"""Lines wrapped for a narrow terminal: broken between words, and indented as they began."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

LEAST = 40
"""Columns below which nothing is broken any more."""
_REMARK = re.compile(r"(  \S.*?) {2,}(\S.*)")


def columns(stream: TextIO) -> int | None:
    """How wide the terminal is that a stream leads to, or as `COLUMNS` has it; None for a log or a pipe."""
    try:
        wide = shutil.get_terminal_size().columns if stream.isatty() or os.environ.get("COLUMNS") else None
    except ValueError:  # the stream is closed
        return None
    return wide and max(LEAST, wide)


def fold(lines: Iterable[str], width: int | None) -> Iterator[str]:
    """The lines, those longer than `width` broken between words; a word that is longer stands on a line of its own."""
    for line in lines:
        if width is None or len(line) <= width or not line.strip():
            yield line
        else:
            deeper = " " * (len(line) - len(line.lstrip()) + 2)
            yield from _wrapped(line, width, deeper)


def fold_page(text: str, width: int) -> Iterator[str]:
    """A page of help: paragraphs are filled anew, a command keeps its line, and the remark after it moves below."""
    paragraph: list[str] = []
    for line in text.rstrip("\n").split("\n"):
        if line and not line.startswith(" "):
            paragraph.append(line)
            continue
        yield from _filled(paragraph, width)
        paragraph = []
        remark = _REMARK.fullmatch(line)
        if len(line) <= width or (not remark and line.startswith("  fttool ")):
            yield line
        elif remark:
            yield remark[1]
            yield from _wrapped(f"      {remark[2]}", width, "      ")
        else:
            yield from fold([line], width)
    yield from _filled(paragraph, width)


def beside(head: str, text: str, width: int) -> list[str]:
    """`text` after `head`, and what does not fit there below its beginning."""
    return _wrapped(head + text, width, " " * len(head))


def _filled(paragraph: list[str], width: int) -> list[str]:
    """The same lines where they fit."""
    fits = max(map(len, paragraph), default=0) <= width
    return paragraph if fits else _wrapped(" ".join(paragraph), width, "")


def _wrapped(line: str, width: int, deeper: str) -> list[str]:
    return textwrap.wrap(
        line, width, subsequent_indent=deeper, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )
