"""From examples to rows of tokens: masked, truncated, or dropped with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Encoded, Example, RowEncoder
from fttool.errors import ModelError, Problem
from fttool.rows.checks.bad import BadRows
from fttool.rows.datasets import Reading
from fttool.rows.lengths import Fitted, fitted
from fttool.rows.rows import Gone, Rows
from fttool.rows.tokens import TokenRows
from fttool.yielded import check_row

PLAINEST = Example(
    origin="",
    messages=({"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue is one."}),
    completion_from=1,
)
"""A conversation that every chat template can write."""
PLAINEST_TEXT = Example(origin="", prompt="Name a colour. ", completion="Blue is one.")
"""The same without a chat template."""


def from_dataset(dataset: Reading, examples: Iterable[Example]) -> Iterator[tuple[Reading, Example]]:
    """Examples beside the dataset that they are of."""
    return ((dataset, example) for example in examples)


def encode_rows(
    examples: Iterable[tuple[Reading, Example]],
    encode: RowEncoder,
    recipe: Recipe,
    into: TokenRows,
    rows: Rows,
    first: int | None = None,
) -> list[Example]:
    """Mask and truncate, until `into` has the `first` rows; returns the examples that were kept."""
    max_length = recipe.batching.max_length
    encoded: list[Example] = []
    faulty: dict[str, BadRows] = {}
    for dataset, example in _split(examples, recipe, rows):
        if len(into) == first:
            break
        try:
            row = encode(example)
            check_row(recipe.masking, row, example.origin)
            too_long = row.cut or len(row.input_ids) > max_length
            became = fitted(example, row, recipe.batching, encode) if too_long else Fitted([(row, example)])
        except ValueError as wrong:
            if example.messages:
                _refuse_template(encode, example, wrong)
            dataset.bad.add(Gone.of(dataset.table.dataset, example, str(wrong), "bad"), wrong)
            faulty[dataset.table.dataset] = dataset.bad
            if dataset.bad.enough:
                break
            continue
        if not became.rows or not all(_teaches(part) for part, _ in became.rows):
            reason = _nothing_left(recipe, example, too_long, bool(became.rows))
            rows.drop(Gone.of(dataset.table.dataset, example, reason, "length"), len(row.input_ids))
            continue
        for part, of in became.rows:
            into.append(part, of.origin)
            encoded.append(of)
        rows.count_fitted(became, too_long)
    for bad in faulty.values():
        bad.settle()
    return encoded


def _split(
    examples: Iterable[tuple[Reading, Example]], recipe: Recipe, rows: Rows
) -> Iterator[tuple[Reading, Example]]:
    """The rows that masking makes of the examples, and how many examples became several."""
    for dataset, example in examples:
        parts = recipe.masking.split(example)
        rows.split += len(parts) > 1
        yield from from_dataset(dataset, parts)


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
