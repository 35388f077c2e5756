"""Renders that differ in what is said and in nothing else: what was found out about one holds for all of them.

To follow every character of a render (`writing.py`) and to find its turns takes several times as long as to render it.
So a conversation that was followed is kept as a pattern: the text of the template, with holes where texts of messages
stand. A later conversation of the same form (the same roles, keys, variables for the template) is rendered too, and its
render is held against the pattern with its own texts in the holes. Where the two are the same to the character, it has
the owners and the turns of the pattern. Where they are not, as with a template that looks at what is said, it is
followed itself, and becomes a pattern for others.

Only such renders become patterns in which each text stands once, and whole but for white space around it: where their
turns begin and end does not hang on what is said in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from fttool.api import Message
from fttool_plugins.masking.owned import Owner
from fttool_plugins.masking.thoughts import KEYS
from fttool_plugins.masking.writing import Run, Written

SAID = frozenset({"content", *KEYS})
"""Keys of messages whose texts become holes."""
FORMS, PATTERNS = 1_000, 8
"""Forms that are kept in mind, and patterns of each."""

_STRIPS: tuple[Callable[[str], str], ...] = (str, str.strip, str.lstrip, str.rstrip)
"""What a template may do to a text that goes into a hole."""


class Turn(NamedTuple):
    """What is learned of one message: the characters `start` to `end` (exclusive)."""

    message: int
    start: int
    end: int
    added: str
    """The end of the turn where the template leaves it out after the last one; it stands after the conversation."""


class Patterns:
    """Remembers renders that were followed, by the form of their conversations."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], list[Pattern]] = {}

    def filled(self, messages: Sequence[Message], template: Mapping[str, Any], text: str) -> Filled | None:
        """The pattern which, with these messages in it, is the render `text`; None where none is known."""
        known = self._known.get(_form(messages, template), ())
        return next((filled for pattern in known if (filled := pattern.filled(messages, text))), None)

    def add(self, messages: Sequence[Message], template: Mapping[str, Any], written: Written) -> None:
        """Remember the render of these messages, where it can be a pattern."""
        form = _form(messages, template)
        pattern = _pattern(messages, written) if form else None
        if pattern:
            if len(self._known) >= FORMS:
                self._known.clear()
            known = self._known.setdefault(form, [])
            known.append(pattern)
            del known[:-PATTERNS]


def _form(messages: Sequence[Message], template: Mapping[str, Any]) -> tuple[Any, ...]:
    """What conversations have in common that a template may write alike; empty for one that has none.

    All of a conversation but what is said. Texts that are blank are part of it: templates leave them out.
    """
    form: list[Any] = [json.dumps(template, sort_keys=True, default=repr) if template else ""]
    for message in messages:
        form.append(len(message))
        for key, value in message.items():
            if type(value) is not str or not (key in SAID or key == "role"):
                return ()
            form += (key, value if key == "role" or not value or value.isspace() else None)
    return tuple(form)


class _Hole(NamedTuple):
    message: int
    field: str
    strip: Callable[[str], str]


class Pattern:
    """A render with holes."""

    def __init__(self, pieces: Iterable[tuple[str, Owner | None] | _Hole]) -> None:
        self.pieces = list(pieces)
        self.holes = [piece for piece in self.pieces if isinstance(piece, _Hole)]
        self.turns: dict[int, list[tuple[int, int, int, int, str]]] = {}
        """Message → of each of its turns the holes and the characters of the template before its start and before its
        end, and what is added.
        """
        between = [""]
        for piece in self.pieces:
            if isinstance(piece, _Hole):
                between += ("", "")
            else:
                between[-1] += piece[0]
        self.parts = between
        """The template's text before, between and after the holes, and in their places nothing."""

    def filled(self, messages: Sequence[Message], text: str) -> Filled | None:
        """The pattern with texts of these messages in its holes; None where that is not `text`."""
        said = [hole.strip(messages[hole.message][hole.field]) for hole in self.holes]
        parts = self.parts.copy()
        parts[1::2] = said
        return Filled(self, messages, text, said) if "".join(parts) == text else None


class Filled:
    """A pattern that is the render of a conversation."""

    def __init__(self, pattern: Pattern, messages: Sequence[Message], text: str, said: Sequence[str]) -> None:
        self._pattern, self._messages, self._text, self._said = pattern, messages, text, said
        self._lengths = [0, *accumulate(map(len, said))]
        """The number of characters in the first 0, 1, 2 … holes."""

    @cached_property
    def written(self) -> Written:
        """The render with its owners."""
        runs: list[Run] = []
        place, said = 0, iter(self._said)
        for piece in self._pattern.pieces:
            if isinstance(piece, _Hole):
                owner = Owner(piece.message, piece.field, 0, len(self._messages[piece.message][piece.field]))
                length = len(next(said))
            else:
                owner, length = piece[1], len(piece[0])
            if owner:
                runs.append(Run(place, place + length, owner))
            place += length
        return Written(self._text, tuple(runs))

    def turns(self, message: int) -> list[Turn] | None:
        """The turns of a message, where they are known of the pattern."""
        known, lengths = self._pattern.turns.get(message), self._lengths
        if known is None:
            return None
        return [
            Turn(message, lengths[before] + start, lengths[inside] + end, added)
            for before, start, inside, end, added in known
        ]

    def remember(self, message: int, turns: Sequence[Turn]) -> None:
        """Note the turns of a message, where what it says is written and they begin and end in text of the template."""
        borders = [(self._place(turn.start), self._place(turn.end), turn.added) for turn in turns]
        told = [(*start, *end, added) for start, end, added in borders if start and end]
        if len(told) == len(turns) and any(
            (hole.message, hole.field) == (message, "content") for hole in self._pattern.holes
        ):
            self._pattern.turns[message] = told

    def _place(self, character: int) -> tuple[int, int] | None:
        """The holes and the characters of the template in front of one; None for a character in a hole."""
        template = accumulate(map(len, self._pattern.parts[::2]))
        for hole, before in enumerate(template):
            if character <= before + self._lengths[hole]:
                return hole, character - self._lengths[hole]
            if hole < len(self._said) and character < before + self._lengths[hole + 1]:
                return None
        return len(self._said), character - self._lengths[-1]


def _pattern(messages: Sequence[Message], written: Written) -> Pattern | None:
    """The pattern of a render; None where a text stands in it twice, in part, or together with others."""
    pieces: list[tuple[str, Owner | None] | _Hole] = []
    done = 0
    for run in written.runs:
        pieces.append((written.text[done : run.start], None))
        text, (message, field, *_) = written.text[run.start : run.end], run.owner
        done = run.end
        if message is None and field not in ("tools", "documents"):  # of several messages
            return None
        said = messages[message].get(field) if message is not None and field in SAID else None
        if message is None or field not in SAID or (said and said.isspace()):
            pieces.append((text, run.owner))
            continue
        strip = next((strip for strip in _STRIPS if said and strip(said) == text), None)
        if strip is None or any(piece[:2] == (message, field) for piece in pieces):
            return None
        pieces.append(_Hole(message, field, strip))
    return Pattern([*pieces, (written.text[done:], None)])
