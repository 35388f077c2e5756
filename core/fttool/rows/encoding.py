"""From examples to rows of tokens: masked, truncated, or dropped with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Encoded, Example, RowEncoder
from fttool.contracts.strategy import Track
from fttool.errors import ModelError, Problem
from fttool.rows.datasets import Reading
from fttool.rows.gone import Gone
from fttool.rows.lengths import Fitted, fitted
from fttool.rows.rows import Rows
from fttool.rows.spooled import Spool
from fttool.rows.tokens import TokenRows
from fttool.rows.workers import mapped
from fttool.yielded import check_row

T = TypeVar("T")
PLAINEST = Example(
    origin="",
    messages=({"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue is one."}),
    completion_from=1,
)
"""A conversation that every chat template can write."""
PLAINEST_TEXT = Example(origin="", prompt="Name a colour. ", completion="Blue is one.")
"""The same without a chat template."""
SHOWN_FROM = 1_000
"""Rows from which it is shown how far their encoding is: fewer are done at once."""


def untracked(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, shown nowhere."""
    return items


def encode_rows(
    of: Reading,
    examples: Sequence[Example],
    encode: RowEncoder,
    recipe: Recipe,
    into: TokenRows,
    rows: Rows,
    first: int | None = None,
    kept: Spool[Example] | None = None,
    track: Track = untracked,
) -> None:
    """Mask and truncate rows of a dataset, until `into` has the `first`; those that are taken go into `kept` too, and
    `track` shows how far it is where they are many.
    """
    name, bad = of.table.dataset, of.bad
    # One after another where only the first rows are wanted.
    attempts = mapped(partial(_attempt_parts, recipe, encode), examples, recipe.data.workers if first is None else 1)
    shown = examples if first is not None or len(examples) < SHOWN_FROM else track(examples, f"making tokens of {name}")
    for example, made in _parts(shown, attempts, recipe, rows):
        if len(into) == first:
            break
        if isinstance(made, ValueError):
            bad.add(Gone.of(name, example, str(made), "bad"), made)
            if bad.enough:
                break
            continue
        became = made.became.rows
        if not became or not all(_teaches(part) for part, _ in became):
            reason = _nothing_left(recipe, example, made.too_long, bool(became))
            rows.drop(Gone.of(name, example, reason, "length"), made.tokens)
            continue
        for part, part_of in became:
            into.append(part, (part_of or example).origin, made.became.lost.get("tokens", 0))
            if kept is not None:
                kept.append(part_of or example)
        rows.count_fitted(made.became, made.too_long)
    attempts.close()
    bad.settle()


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of an example."""

    tokens: int
    """Before anything was cut."""
    too_long: bool
    became: Fitted


Made: TypeAlias = "list[_Made | ValueError]"
"""Of each of an example's rows."""


def _attempt(recipe: Recipe, encode: RowEncoder, example: Example) -> _Made | ValueError:
    """Mask one row and cut it, or say what is wrong with it; of itself, for it may be done in another process."""
    try:
        row = encode(example)
        check_row(recipe.masking, row, example.origin)
        too_long = row.cut or len(row.input_ids) > recipe.batching.max_length
        became = fitted(example, row, recipe.batching, encode) if too_long else Fitted([(row, None)])
    except ValueError as wrong:
        if example.messages:
            _refuse_template(encode, example, wrong)
        return wrong
    return _Made(len(row.input_ids), too_long, became)


def _attempt_parts(recipe: Recipe, encode: RowEncoder, example: Example) -> list[_Made | ValueError]:
    """The same for each of the rows that masking makes of an example."""
    return [_attempt(recipe, encode, part) for part in recipe.masking.split(example)]


def _parts(
    examples: Iterable[Example], attempts: Iterable[Made], recipe: Recipe, rows: Rows
) -> Iterator[tuple[Example, _Made | ValueError]]:
    """The rows that masking has made of the examples, and what became of them; how many became several is counted."""
    for example, made in zip(examples, attempts, strict=False):
        parts = recipe.masking.split(example)
        rows.split += len(parts) > 1
        yield from zip(parts, made, strict=False)


def _teaches(row: Encoded) -> bool:
    """Whether a token or a class of the row is learned."""
    if row.words is not None:
        return bool(row.classes)
    return row.classes is not None or any(label != -100 for label in row.labels[1:])


def _nothing_left(recipe: Recipe, example: Example, too_long: bool, cut: bool) -> str:
    """Why a row is dropped that is longer than it may be, or of which nothing is learned."""
    length, truncate = recipe.batching.max_length, recipe.batching.truncate
    if too_long and recipe.batching.too_long == "drop":
        return f"longer than {length} tokens"
    end = f" in the {'last' if truncate == 'keep_end' else 'first'} {length} tokens"
    within = (end if cut else f" in whole turns of {length} tokens") if too_long else ""
    marked = " beside turns marked as not learned" if example.unlearned else ""
    return f"nothing to learn{within}{marked}"


def _refuse_template(encode: RowEncoder, example: Example, wrong: ValueError) -> None:
    """Raise `ModelError` where it is not the row that is wrong: the plainest conversation cannot be written either.

    Unless the same words are refused as plain text too: then masking asks for something that they lack.
    """
    if not _encodes(encode, PLAINEST) and _encodes(encode, PLAINEST_TEXT):
        hint = 'choose one that can: model.chat_template = "chatml", or a Jinja file'
        message = f"the chat template fails even on one question and its answer: {wrong} ({example.origin})"
        raise ModelError(Problem(message, hint=hint, key=("model", "chat_template"))) from wrong


def _encodes(encode: RowEncoder, example: Example) -> bool:
    try:
        encode(example)
    except ValueError:
        return False
    return True
