"""`tagged`: the words of a text, and a tag for each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Levels, RowReader
from fttool_plugins.format.columns import fetch

COLUMN = re.compile(r"column ([1-9]\d*)")
"""How the columns of a CoNLL file are called."""
UNFINISHED = re.compile(r"[BIES]-")
"""A tag that begins as one of an entity, and does not say of which."""


class Tagged(Format):
    """Words and their tags: `{"tokens": ["Anna", "sings"], "tags": ["B-PER", "O"]}`, or a CoNLL file.

    A CoNLL file has a word a line, its columns apart by a tab or blanks, and an empty line between sentences; its first
    column holds the words and its last one the tags. Entities are tagged as IOB2 (`B-PER`, `I-PER`, `O`) or as any
    scheme of its kind does; tags of other kinds, such as parts of speech, are learned too.
    """

    name: Literal["tagged"] = "tagged"
    example: ClassVar[Mapping[str, Any]] = {"tokens": ["Anna", "sings"], "tags": ["B-PER", "O"]}
    level: ClassVar[Levels] = "word"
    tokens: str | None = None
    """The column that holds the words; default: `tokens`, or `column 1` of a CoNLL file."""
    tags: str | None = None
    """The column that holds a tag for each word; default: `tags` or `ner_tags`, or the last column of a CoNLL file."""
    names: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The tags' names in the order of their numbers, from 0, where rows have numbers instead of names."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_tagged(row, origin, self)


def read_tagged(row: Mapping[str, Any], origin: str, columns: Tagged) -> Example:
    """The words of a row, joined by blanks, and their tags; raises `ValueError` where one is missing or no text."""
    given, tagged = _columns(row, columns)
    words = read_words(row, columns)
    tags = _list(fetch(row, tagged, "tags", "tagged"), tagged)
    if len(words) != len(tags):
        raise ValueError(f"'{given}' has {len(words)} words and '{tagged}' {len(tags)} tags; each word needs one")
    return joined(origin, words, [_tag(tag, number, tagged, columns.names) for number, tag in enumerate(tags, 1)])


def read_words(row: Mapping[str, Any], columns: Tagged) -> tuple[str, ...]:
    """The words of a row; raises `ValueError` where they are missing, none, or no text."""
    given = word_column(row, columns)
    words = _list(fetch(row, given, "tokens", "tagged"), given)
    if not words:
        raise ValueError(f"'{given}' is empty, so there is no word to tag")
    for number, word in enumerate(words, 1):
        if not isinstance(word, str):
            raise ValueError(f"entry {number} of '{given}' must be a word, this is {type(word).__name__}")
        if not word.strip():
            raise ValueError(f"entry {number} of '{given}' is blank: leave out the word and its tag")
    return tuple(words)


def joined(origin: str, words: Sequence[str], tags: Sequence[str] | None = None) -> Example:
    """The example of words that are apart by blanks: how a model reads them, in training and afterwards."""
    places: list[tuple[int, int]] = []
    start = 0
    for word in words:
        places.append((start, start + len(word)))
        start += len(word) + 1
    labels = tuple(tags) if tags is not None else None
    return Example(origin=origin, prompt=" ".join(words), words=tuple(places), labels=labels)


def word_column(row: Mapping[str, Any], columns: Tagged) -> str:
    """The column of a row's words."""
    return columns.tokens or ("column 1" if "tokens" not in row and "column 1" in row else "tokens")


def _columns(row: Mapping[str, Any], columns: Tagged) -> tuple[str, str]:
    """The columns of a row's words and of their tags."""
    numbered = [int(match[1]) for key in row.keys() if (match := COLUMN.fullmatch(key))]  # noqa: SIM118 - only asked for
    if "tags" in row and "ner_tags" in row and columns.tags is None:
        raise ValueError(
            "the row has both 'tags' and 'ner_tags'; say which: format = {name = \"tagged\", tags = \"…\"}"
        )
    usual = "ner_tags" if "ner_tags" in row else "tags"
    last = f"column {max(numbered)}" if numbered and usual not in row else usual
    return word_column(row, columns), columns.tags or last


def _list(value: Any, column: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"'{column}' must be a list, with an entry for each word; this is {type(value).__name__}")
    return value


def _tag(value: Any, number: int, column: str, names: Sequence[str] | None) -> str:
    """The name of a tag; raises `ValueError` for what is none."""
    where = f"tag {number} of '{column}'"
    if isinstance(value, int) and not isinstance(value, bool):
        if names is None:
            named = 'format = {name = "tagged", names = ["O", "B-PER", …]}'
            raise ValueError(f"{where} is the number {value}; say which tags the numbers stand for: {named}")
        if not 0 <= value < len(names):
            raise ValueError(f"{where} is the number {value}, and the format's names go from 0 to {len(names) - 1}")
        return names[value]
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise ValueError(f"{where} must be text or a whole number, this is {kind}")
    tag = value.strip()
    if not tag:
        raise ValueError(f"{where} is blank; a word of no entity has the tag O")
    if UNFINISHED.fullmatch(tag):
        raise ValueError(f"{where} is {tag!r}, which names no entity: write {tag}PER, say, or O")
    if names is not None and tag not in names:
        raise ValueError(f"{where} is {tag!r}, which is not among the format's names: {', '.join(names[:20])}")
    return tag
