"""Text that knows who wrote each of its characters.

`Owned` is a `str` in every respect, so a chat template that strips it, splits it at `</think>` or looks for a word in
it does what it would do with plain text. What such an operation yields is `Owned` too: each character keeps its owner.
Where a result cannot be followed character by character (`"%5s" % text`, `| wordwrap`), all of it gets the owner of
what went in, or `SEVERAL`, so that no character of a message ever passes for text of the template.
"""

# ruff: noqa: D102 (the methods of `Owned` are those of `str`, and documented there)

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, SupportsIndex, cast


class Owner(NamedTuple):
    """Who wrote a character: the value under `field` of a message, or of the row itself (its `tools`)."""

    message: int | None
    """Index of the message; None for what belongs to the whole conversation."""
    field: str
    """The key: `content`, `reasoning_content`, `tool_calls`, `role`, `name` …"""
    part: int = 0
    """Which of the texts under that key: a list of calls holds many."""
    size: int = 0
    """The number of characters of that text, of which the template may write some, all, or all of them twice."""


SEVERAL = Owner(None, "several messages")
"""Owns what was made of the texts of more than one owner and can no longer be told apart."""

Runs = tuple[tuple[int, Owner | None], ...]
"""(number of characters, their owner) from the first character to the last; None owns what the template wrote."""


class Owned(str):
    """A text and the owner of each of its characters; every operation yields text that keeps them."""

    __slots__ = ("_runs",)
    _runs: Runs

    def __new__(cls, text: str = "", runs: Runs | None = None) -> Owned:
        owned = super().__new__(cls, text)
        owned._runs = ((len(text), None),) if runs is None else runs
        return owned

    def __str__(self) -> str:
        return self

    def __add__(self, other: Any, /) -> str:
        return join((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any, /) -> str:
        return join((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex, /) -> str:
        return join([self] * times.__index__())

    def __rmul__(self, times: SupportsIndex, /) -> str:
        return self * times

    def __mod__(self, values: Any, /) -> str:
        return found_again(super().__mod__(values), (self, values))

    def __rmod__(self, template: Any, /) -> str:
        return found_again(str.__mod__(template, self), (template, self))

    def __getitem__(self, key: SupportsIndex | slice, /) -> str:
        text = super().__getitem__(key)
        if not isinstance(key, slice):
            return self._cut(key.__index__() % len(self), 1, text)
        start, stop, step = key.indices(len(self))
        if step == 1:
            return self._cut(start, len(text), text)
        return join([self[place] for place in range(start, stop, step)])

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))

    def _cut(self, start: int, length: int, text: str) -> Owned:
        """`text`, which stands at `start` and is `length` characters long, with its owners."""
        runs: list[tuple[int, Owner | None]] = []
        begin = 0
        for count, owner in self._runs:
            inside = min(begin + count, start + length) - max(begin, start)
            if inside > 0:
                runs.append((inside, owner))
            begin += count
        return Owned(text, tuple(runs))

    def _pieces(self, pieces: Iterable[str]) -> list[str]:
        """Pieces that stand in this text one after the other, with their owners."""
        owned_pieces: list[str] = []
        place = 0
        for piece in pieces:
            place = super().find(piece, place)
            owned_pieces.append(self._cut(place, len(piece), piece))
            place += len(piece)
        return owned_pieces

    # -- what templates do with text, under the names that `str` has -------------------------------------------------

    def strip(self, chars: str | None = None, /) -> str:
        return cast("Owned", self.lstrip(chars)).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        text = super().lstrip(chars)
        return self._cut(len(self) - len(text), len(text), text)

    def rstrip(self, chars: str | None = None, /) -> str:
        text = super().rstrip(chars)
        return self._cut(0, len(text), text)

    def removeprefix(self, prefix: str, /) -> str:
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        return self[: len(self) - len(suffix)] if self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._separated(super().split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._separated(super().rsplit(sep, maxsplit), sep)

    def _separated(self, pieces: list[str], sep: str | None) -> list[str]:
        if sep is None:
            return self._pieces(pieces)
        owned_pieces: list[str] = []
        place = 0
        for piece in pieces:
            owned_pieces.append(self._cut(place, len(piece), piece))
            place += len(piece) + len(sep)
        return owned_pieces

    def splitlines(self, keepends: bool = False) -> list[str]:
        return self._pieces(super().splitlines(keepends))

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        first, middle, last = self._pieces(super().partition(sep))
        return first, middle, last

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        at = self.rfind(sep)
        pieces = super().rpartition(sep)
        if at < 0:
            return pieces[0], pieces[1], self
        return self[:at], self[at : at + len(sep)], self[at + len(sep) :]

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return as_a_whole(super().replace(old, new, count), (self, new))
        return join_with(new, self.split(old, count))

    def join(self, parts: Iterable[str], /) -> str:
        return join_with(self, list(parts))


def _followed(name: str, follow: Callable[[str, Any], str]) -> Callable[..., str]:
    """The method of `str` with this name; `follow` gives its result the owners of what it was made of."""
    method_of_str = getattr(str, name)

    def method(self: Owned, *args: Any) -> str:
        return follow(method_of_str(self, *args), (self, *args))

    return method


class OwnedMarkup(Owned):
    """What `| safe` has made of a text, with owners: what is added to it is escaped first."""

    __slots__ = ()


def is_markup(value: Any) -> bool:
    """True for a text of `| safe`, with owners or without."""
    return isinstance(value, OwnedMarkup) or (isinstance(value, str) and hasattr(value, "__html__"))


def add_markup(left: str, right: str, escape: Callable[[str], str]) -> str:
    """The two one after the other, of which one is markup and the other is escaped."""
    parts: list[str] = []
    for text in (left, right):
        if is_markup(text):
            parts.append(text)
        else:
            escaped = ((escape(piece), owner) for piece, owner in _by_owner(Owned(text, runs(text))))
            parts += [Owned(piece, ((len(piece), owner),)) for piece, owner in escaped]
    return OwnedMarkup("".join(map(plain, parts)), tuple(run for part in parts for run in runs(part) if run[0]))


def owned(value: Any, message: int | None, field: str) -> Any:
    """`value` with each of its texts, in lists and mappings too, owned by a field of a message."""
    parts = itertools.count()

    def mark(value: Any) -> Any:
        if isinstance(value, str):
            return Owned(value, ((len(value), Owner(message, field, next(parts), len(value))),))
        if isinstance(value, Mapping):
            return {mark(key): mark(item) for key, item in cast("Mapping[Any, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [mark(item) for item in cast("Iterable[Any]", value)]
        return value

    return mark(value)


def runs(text: str) -> Runs:
    """The owners of a text's characters; plain text is the template's."""
    return text._runs if isinstance(text, Owned) else ((len(text), None),)  # pyright: ignore[reportPrivateUsage]


def plain(text: str) -> str:
    """The text without its owners."""
    return str.__getitem__(text, slice(None))


def join(parts: Iterable[str]) -> str:
    """The texts one after the other."""
    parts = list(parts)
    if not any(isinstance(part, Owned) for part in parts):
        return "".join(parts)
    return Owned("".join(parts), tuple(run for part in parts for run in runs(part) if run[0]))


def join_with(separator: str, parts: list[str]) -> str:
    """The texts with a separator between."""
    return join([piece for part in parts for piece in (separator, part)][1:])


def as_a_whole(text: str, source: Any) -> str:
    """`text` as made of `source`: all of it has the one owner found there, or `SEVERAL`."""
    of_source = set(_owners(source))
    owners = {owner._replace(part=0, size=0) if len(of_source) > 1 else owner for owner in of_source}
    return Owned(text, ((len(text), owners.pop() if len(owners) == 1 else SEVERAL),)) if owners else text


def letter_by_letter(text: str, source: tuple[Owned, ...]) -> str:
    """`text`, which has a character for each of the source's; one of another length is followed as a whole."""
    return Owned(text, runs(source[0])) if len(text) == len(source[0]) else as_a_whole(text, source)


def found_again(text: str, source: Any) -> str:
    """`text` into which the texts of `source` were put as they are: where each stands once, there are its owners.

    Where one stands there more than once, or not at all, `text` is followed as a whole.
    """
    placed: list[tuple[int, Owned]] = []
    for part in _parts(source):
        if part and any(owner for _, owner in runs(part)):
            place = str.find(text, part)
            if place < 0 or str.find(text, part, place + 1) >= 0:
                return as_a_whole(text, source)
            placed.append((place, part))
    written: list[str] = []
    done = 0
    for place, part in sorted(placed, key=lambda placing: placing[0]):
        if place < done:
            return as_a_whole(text, source)
        written += [str.__getitem__(text, slice(done, place)), part]
        done = place + len(part)
    return join([*written, str.__getitem__(text, slice(done, None))])


def _parts(source: Any) -> Iterator[Owned]:
    """Every owned text in a value, its lists and mappings."""
    if isinstance(source, Owned):
        yield source
    elif isinstance(source, Mapping):
        for pair in cast("Mapping[Any, Any]", source).items():
            yield from _parts(pair)
    elif isinstance(source, list | tuple):
        for item in cast("Iterable[Any]", source):
            yield from _parts(item)


def is_owned(source: Any) -> bool:
    """True where a text in a value, its lists and mappings has an owner."""
    return any(True for _ in _owners(source))


def _owners(source: Any) -> Iterator[Owner]:
    return (owner for part in _parts(source) for count, owner in runs(part) if count and owner)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`json.dumps(value, …)`, the text of each string owned as the string is."""
    options: dict[str, Any] = {"ensure_ascii": ensure_ascii, "sort_keys": sort_keys}
    text = json.dumps(value, indent=indent, separators=separators, **options)
    if not is_owned(value):
        return text
    between, colon = separators or (", " if indent is None else ",", ": ")
    step: str | None = indent if indent is None or isinstance(indent, str) else " " * indent

    def written(value: Any, level: int) -> Iterator[str]:
        if isinstance(value, Mapping) and value:
            items = cast("Iterable[tuple[Any, Any]]", sorted(value.items()) if sort_keys else value.items())
            pairs = (join([*written(_key(key), 0), colon, *written(item, level + 1)]) for key, item in items)
            yield from block("{", pairs, "}", level)
        elif isinstance(value, list | tuple) and value:
            items = cast("Iterable[Any]", value)
            yield from block("[", (join(written(item, level + 1)) for item in items), "]", level)
        elif isinstance(value, Owned):
            dumped = ((json.dumps(part, ensure_ascii=ensure_ascii)[1:-1], owner) for part, owner in _by_owner(value))
            yield from ('"', *(Owned(part, ((len(part), owner),)) for part, owner in dumped), '"')
        else:
            yield json.dumps(value, **options)

    def block(opening: str, items: Iterable[str], closing: str, level: int) -> Iterator[str]:
        outer, inner = ("", "") if step is None else ("\n" + step * level, "\n" + step * (level + 1))
        yield from (opening, inner, join_with(between + inner, list(items)), outer, closing)

    mine = join(written(value, 0))
    return mine if mine == text else as_a_whole(text, value)


def _key(key: Any) -> Any:
    return key if isinstance(key, str) else json.dumps(key)


def _by_owner(text: Owned) -> Iterator[tuple[str, Owner | None]]:
    place = 0
    for count, owner in runs(text):
        yield str.__getitem__(text, slice(place, place + count)), owner
        place += count


for _name in ("lower", "upper", "title", "capitalize", "swapcase", "casefold"):
    setattr(Owned, _name, _followed(_name, letter_by_letter))
for _name in ("zfill", "center", "ljust", "rjust"):
    setattr(Owned, _name, _followed(_name, found_again))
for _name in ("translate", "expandtabs"):
    setattr(Owned, _name, _followed(_name, as_a_whole))
