"""The first sentences of a documentation string, tidied so that they can stand as an answer."""

from __future__ import annotations

import re

MAX_WORDS = 60
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Dr|Mr|resp|approx|No)|\.\.)\.$")
_CALL = re.compile(r"[\w.]+\(.*\)(?: *-> *[^.]*)?")
"""A block of `S.find(sub[, start]) -> int`, as old C code begins."""
_RESULT = re.compile(r"^[\w.]+\([^()]*\) *-> *[\w ]+[.:]? +(?=[A-Z])")
"""The start of `getrandbits(k) -> x.  Generates …`"""
_CODE_LINE = re.compile(r"^\s*(?:>>>|\.\. |\* |- |:|@|[\w.]+\(.*\) *(?:->|$)|[\w.]+\(.*\) *--? |\S+ *=[^=])|::=")


def first_paragraph(doc: str) -> str:
    """The first paragraph of prose in one line; empty where the text starts with code, a list or a table."""
    for block in re.split(r"\n\s*\n", doc):
        if _CALL.fullmatch(block.strip()):
            continue
        prose = _RESULT.sub("", block)
        if any(_CODE_LINE.search(line) for line in prose.splitlines()):
            return ""
        return _tidy(prose)
    return ""


def summary(doc: str, max_words: int = MAX_WORDS) -> str:
    """The first sentences, as many as fit in `max_words`; empty where the first does not, or is none."""
    kept: list[str] = []
    for sentence in sentences(first_paragraph(doc)):
        if len(" ".join([*kept, sentence]).split()) > max_words:
            break
        kept.append(sentence)
    while kept and kept[-1].endswith(":"):  # announces a list that is not here
        kept.pop()
    text = " ".join(kept)
    if len(text.split()) < 3 or not text[0].isalpha():
        return ""
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def sentences(text: str) -> list[str]:
    """Cut after full stops, but not after `e.g.`."""
    parts: list[str] = []
    for piece in re.split(r"(?<=[.!?]) +(?=[A-Z`\"'(])", text):
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] += f" {piece}"
        else:
            parts.append(piece)
    return [part for part in parts if part]


def _tidy(block: str) -> str:
    text = re.sub(r"(\w)-\n\s*(?=[a-z])", r"\1-", block)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"\*(\w+)\*", r"`\1`", text)
