"""Text of strangers on a terminal: what would command it, hide or turn text around is shown as an escape.

Rows, recipes, chat templates, paths and plugins may hold any character. Of those that a terminal obeys or a reader does
not see (control characters, marks of direction, invisible tags: the Unicode categories below), only line breaks and
tabs are written as they are; line breaks only in what is text of several lines, never in a name or a message. Every
problem and every line of a screen goes through here.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

from fttool.wrapping import columns, fold

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control, format, lone surrogate, line and paragraph separator."""
_KEPT = {"\u200c", "\u200d", *map(chr, range(0x0600, 0x0606)), "\u06dd", "\u070f", "\u08e2", "\U000110bd", "\U000110cd"}
"""The joiners, without which Persian, Hindi and emoji are wrong, and signs of Arabic numbers, which have a shape."""
_NOT_PLAIN = re.compile(r"[^\n\t -~]")


def visible(text: str) -> str:
    r"""`text` with `\x1b`, `\u202e` and their kind written out; it does nothing to a terminal but fill it."""
    return _NOT_PLAIN.sub(lambda match: _shown(match[0]), text)


def visible_json(text: str) -> str:
    """The same for JSON, which means what it meant before: such characters are inside its strings."""
    return _NOT_PLAIN.sub(lambda match: _shown(match[0], _as_json), text)


def on_one_line(text: str) -> str:
    r"""The same with line breaks as `\n`: a name that has one must not begin a line which others seem to have said."""
    return visible(text).replace("\n", "\\n")


def in_lines(lines: Iterable[str]) -> str:
    """Lines as one text, in which each of them is one."""
    return "\n".join(map(on_one_line, lines))


def show(*lines: str, error: bool = False) -> None:
    """Print lines, if any, at once, on standard output or where errors go; whatever is in one of them, it stays one."""
    if lines:
        print(in_lines(lines), file=sys.stderr if error else sys.stdout, flush=True)


def tell(*lines: str, error: bool = False) -> None:
    """`show` for sentences: on a terminal, lines that are longer than it is wide break between words."""
    wide = columns(sys.stderr if error else sys.stdout)
    if lines:
        print("\n".join(fold(map(on_one_line, lines), wide)), file=sys.stderr if error else sys.stdout, flush=True)


def _as_text(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _as_json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


@cache
def _shown(char: str, written: Callable[[str], str] = _as_text) -> str:
    return written(char) if unicodedata.category(char) in _HIDDEN and char not in _KEPT else char
