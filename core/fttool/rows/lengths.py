"""Rows of more tokens than `max_length`: cut at one end or at a turn, or made several rows that lose no token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fttool.contracts.batches import Batching
from fttool.contracts.rows import Encoded, Example, RowEncoder

Row = tuple[Encoded, Example | None]
"""A row in tokens, and the example that it is of; None for the one that was asked about."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What becomes of a row that is too long."""

    rows: Sequence[Row] = ()
    """The rows that it becomes, none longer than `max_length`, beside the examples that they are of."""
    lost: Mapping[str, int] = field(default_factory=dict[str, int])
    """What it has lost, by kind in the plural: `{"tokens": 30, "learned tokens": 12}`."""


def fitted(example: Example, row: Encoded, batching: Batching, encode: RowEncoder) -> Fitted:
    """A row that is too long, or was cut by masking itself, as `batching` says; none of it where that drops it."""
    length = batching.max_length
    if batching.too_long == "drop":
        return Fitted()
    if row.cut or row.classes is not None:
        return _first(example, row, length)
    if batching.too_long == "split":
        parts = _at_turns(example, row, batching, encode) if example.messages else _windows(row, batching)
        return Fitted([(part, of) for part, of in _named(parts, example)])
    if batching.truncate == "keep_end":
        kept = replace(row, input_ids=row.input_ids[-length:], labels=[-100, *row.labels[1 - length :]])
        return Fitted([(kept, example)], _lost(row, kept))
    if batching.truncate == "whole_turns" and example.messages:
        return _whole_turns(example, row, length, encode)
    return _first(example, row, length)


def _lost(row: Encoded, kept: Encoded | None) -> dict[str, int]:
    """Tokens that a cut has taken, and how many of them would have been learned."""
    tokens = len(row.input_ids) - (len(kept.input_ids) if kept else 0)
    learned = _learned(row) - (_learned(kept) if kept else 0)
    return {"tokens": tokens} | ({"learned tokens": learned} if learned > 0 else {})


def _learned(row: Encoded) -> int:
    return sum(label != -100 for label in row.labels[1:])


def _first(example: Example, row: Encoded, length: int) -> Fitted:
    """A row without what is beyond its first `length` tokens."""
    types = row.token_types[:length] if row.token_types is not None else None
    kept = replace(row, input_ids=row.input_ids[:length], labels=row.labels[:length], token_types=types)
    lost = dict(row.lost) if row.cut else _lost(row, kept)
    if row.words is not None and row.classes is not None and len(row.words) > length:
        words = row.words[:length]
        left = max(words, default=-1) + 1
        if left < len(row.classes):
            lost["words"] = lost.get("words", 0) + len(row.classes) - left
        kept = replace(kept, words=words, classes=row.classes[:left])
    return Fitted([(kept, example)], lost)


# -- several rows ----------------------------------------------------------------------------------------------------


def _named(parts: Iterator[tuple[Encoded, Example | None]], example: Example) -> Iterator[Row]:
    """The parts of a row, each with an origin of its own: `file:line#1`."""
    for number, (part, of) in enumerate(parts, 1):
        yield part, replace(of or example, origin=f"{example.origin}#{number}")


def _windows(row: Encoded, batching: Batching) -> Iterator[tuple[Encoded, Example | None]]:
    """A row in windows, each of which begins with the last tokens of the one before: read there, and not learned again.

    So each label is learned once. A window without a label is left out.
    """
    length, overlap = batching.max_length, batching.overlap
    begin = 0
    while True:
        ids, labels = row.input_ids[begin : begin + length], row.labels[begin : begin + length]
        known = min(overlap, len(labels)) if begin else 1  # nothing predicts a row's first token
        window = replace(row, input_ids=ids, labels=[-100] * known + labels[known:], remarks=())
        if _learned(window):
            yield replace(window, remarks=row.remarks if begin == 0 else ()), None
        if begin + length >= len(row.input_ids):
            return
        begin += length - overlap


def _at_turns(
    example: Example, row: Encoded, batching: Batching, encode: RowEncoder
) -> Iterator[tuple[Encoded, Example | None]]:
    """A conversation in parts of whole exchanges, each as long as fits and with the system turn in front.

    An exchange that is too long by itself is cut into windows. A part of which nothing is learned is left out.
    """
    ends = _ends(example)
    begin = _head(example)
    while ends:
        fits = _longest(ends, partial(_fits, example, batching.max_length, encode, begin))
        end = ends[max(fits, 0)]
        ends = ends[max(fits, 0) + 1 :]
        if (part := _part(example, row, begin, end)) is not None:
            encoded = encode(part)
            if fits >= 0:
                yield encoded, part
            else:
                yield from ((window, part) for window, _ in _windows(encoded, batching))
        begin = end


def _whole_turns(example: Example, row: Encoded, length: int, encode: RowEncoder) -> Fitted:
    """The first exchanges of a conversation, as many as fit."""
    ends, begin = _ends(example), _head(example)
    fits = _longest(ends, partial(_fits, example, length, encode, begin))
    part = _part(example, row, begin, ends[fits]) if fits >= 0 else None
    if part is None:
        return Fitted((), _lost(row, None))
    kept = encode(part)
    return Fitted([(kept, replace(part, origin=example.origin))], _lost(row, kept))


def _head(example: Example) -> int:
    """How many turns stand in front of the first exchange: those that every part begins with."""
    roles = [message.get("role") for message in example.messages]
    return next((index for index, role in enumerate(roles) if role not in ("system", "developer")), len(roles))


def _ends(example: Example) -> list[int]:
    """Where each exchange ends: before the next turn of the user, and at the end."""
    head, roles = _head(example), [message.get("role") for message in example.messages]
    return [*(index for index in range(head + 1, len(roles)) if roles[index] == "user"), len(roles)]


def _longest(ends: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The index of the last end up to which a part fits, −1 where none does; longer parts have more tokens."""
    low, high = -1, len(ends) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(ends[middle]) else (low, middle - 1)
    return low


def _fits(example: Example, length: int, encode: RowEncoder, begin: int, end: int) -> bool:
    return len(encode(_plain(example, begin, end)).input_ids) <= length


def _part(example: Example, row: Encoded, begin: int, end: int) -> Example | None:
    """The turns from `begin` to `end` (exclusive) behind those in front; None where nothing of them is learned."""
    if row.turns and not any(begin <= turn < end for turn in row.turns):
        return None
    part = _plain(example, begin, end)
    head = _head(example)
    moved = frozenset(index - begin + head for index in example.unlearned if begin <= index < end)
    answers = [index for index, message in enumerate(part.messages) if message.get("role") == "assistant"]
    first = max(example.completion_from - begin + head, head)
    completion = next((index for index in answers if index >= first), answers[-1] if answers else 0)
    return replace(part, unlearned=moved, completion_from=completion)


def _plain(example: Example, begin: int, end: int) -> Example:
    """The same with every answer learned, for its length alone."""
    head = example.messages[: _head(example)]
    return replace(
        example, messages=(*head, *example.messages[begin:end]), unlearned=frozenset(), completion_from=len(head)
    )
