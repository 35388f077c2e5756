"""Entities: what tags such as `B-PER`, `I-PER`, `O` say of a sentence together.

A tag is `O`, or a letter and the entity's kind: B begins one, I goes on, E ends it, S is one by itself. So IOB2 and
IOBES are read, and tags that do not follow their scheme as the scorer of CoNLL-2000 (Tjong Kim Sang and Buchholz 2000)
and seqeval's default read them: an I after `O`, or of another kind than the tag before, begins an entity too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
"""The tag of a word of no entity."""
NAMELESS = "_"
"""The kind of entities whose tags name none: `B`, `I`."""
TAG = re.compile(r"([BIES])(?:-(.+))?", re.DOTALL)


class Entity(NamedTuple):
    """One of a sentence's entities: its kind, and the numbers of its first and its last word, from 0."""

    kind: str
    first: int
    last: int


def is_of_entities(tag: str) -> bool:
    """Whether a tag speaks of entities."""
    return tag == OUTSIDE or TAG.fullmatch(tag) is not None


def kinds(tags: Iterable[str]) -> list[str]:
    """The kinds of entities that tags name, by name."""
    return sorted({kind for tag in tags if (kind := _parts(tag)[1])})


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence, from the tags of its words, in their order."""
    spans: list[Entity] = []
    before, kind_before = OUTSIDE, ""
    for place, tag in enumerate(tags):
        letter, kind = _parts(tag)
        goes_on = letter in ("I", "E") and before in ("B", "I") and kind == kind_before
        if goes_on:
            spans[-1] = spans[-1]._replace(last=place)
        elif kind:
            spans.append(Entity(kind, place, place))
        before, kind_before = letter, kind
    return spans


def _parts(tag: str) -> tuple[str, str]:
    """The letter of a tag and the kind that it names; no kind for a tag of no entity."""
    parts = TAG.fullmatch(tag)
    return (parts[1], parts[2] or NAMELESS) if parts else (OUTSIDE, "")
