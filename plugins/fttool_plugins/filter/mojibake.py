"""Mojibake: UTF-8 that was read as Windows-1252 or Latin-1, once or more; found, and read again as it was meant.

A character of two to four bytes then stands as that many characters, the first of which says how many follow. That a
stretch of text decodes as UTF-8 is not enough: `é »` does, as French is set, and so does `É”`. So a stretch counts
where its first character hardly ever stands before such a sign, or where what follows is not what people write behind
a word. ftfy finds the same and more kinds of damage; on texts of twenty languages, broken and whole, it was right no
more often, so this does without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def _windows_1252(byte: int) -> str:
    """The character of a byte; the five bytes that stand for none are read as Latin-1 has them, as browsers do."""
    try:
        return bytes([byte]).decode("windows-1252")
    except UnicodeDecodeError:
        return chr(byte)


BYTES = {_windows_1252(byte): byte for byte in range(0x80, 0x100)} | {chr(byte): byte for byte in range(0x80, 0x100)}
"""Character → the byte that was read as it, by either of the two encodings."""


def _characters(start: int, end: int) -> str:
    """A class of a pattern: the characters of the bytes from `start` to before `end`."""
    return "[" + "".join(re.escape(character) for character, byte in BYTES.items() if start <= byte < end) + "]"


NEXT = _characters(0x80, 0xC0)
"""A byte that goes on."""
PAIR = f"{_characters(0xC2, 0xE0)}{NEXT}"
STRETCH = f"(?:{PAIR}|{_characters(0xE0, 0xF0)}{NEXT}{{2}}|{_characters(0xF0, 0xF5)}{NEXT}{{3}})+"
"""Characters that may be UTF-8, one after the other."""
SURE = f"[ÂÃ]{NEXT}|â{NEXT}{{2}}|ð{NEXT}{{3}}|ï»¿|ï¿½"
"""How most of mojibake begins: signs and letters of Western languages, quotation marks and dashes, emoji."""
ORDINARY = set("\u00a0«»‹›‘’“”„‚…–—°²³®©™€!¡¿•·")
"""What people write next to a letter, among the characters of bytes that go on."""
LOST = "â€|(?<![A-ZÀ-Þ])Ã(?: |$)"
"""What is left where a byte was lost, or a no-break space became a common one: `â€` of a quotation mark, `Ã` of `à`."""


def repaired(text: str) -> str:
    """The text as it was meant, as far as nothing is lost; the text itself where there is no mojibake.

    Where some of a text is mojibake for certain, whatever in it decodes is taken for more of it.
    """
    while any(map(_certain, re.finditer(STRETCH, text))):
        text = re.sub(STRETCH, lambda match: _decoded(match[0]), text)
    return text


def has_mojibake(text: str) -> bool:
    """True where `repaired` has something to do, or where what is lost has left its mark."""
    return re.search(LOST, text) is not None or any(map(_certain, re.finditer(STRETCH, text)))


def _decoded(stretch: str) -> str:
    """The stretch read again as UTF-8; the stretch itself where it is none."""
    try:
        return bytes(BYTES[character] for character in stretch).decode("utf-8")
    except UnicodeDecodeError:
        return stretch


def _certain(match: re.Match[str]) -> bool:
    """Whether nobody writes that: it begins as mojibake does, is several characters, or has more than punctuation."""
    stretch = match[0]
    decoded = _decoded(stretch)
    if decoded == stretch:
        return False
    goes_on: Iterable[str] = (character for character in stretch if 0x80 <= BYTES[character] < 0xC0)
    return bool(re.match(SURE, stretch)) or len(decoded) > 1 or any(one not in ORDINARY for one in goes_on)
