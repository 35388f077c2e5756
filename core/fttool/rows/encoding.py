"""From examples to rows of tokens: masked, truncated, or dropped with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Encoded, Example, RowEncoder
from fttool.errors import ModelError, Problem
from fttool.rows.checks.bad import BadRows
from fttool.rows.datasets import Reading
from fttool.rows.rows import Rows
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
        except ValueError as wrong:
            if example.messages:
                _refuse_template(encode, example, wrong)
            dataset.bad.add(example.origin, wrong)
            faulty[dataset.table.dataset] = dataset.bad
            if dataset.bad.enough:
                break
            continue
        check_row(recipe.masking, row, example.origin)
        cut = row.cut or len(row.input_ids) > max_length
        if cut and recipe.batching.too_long == "drop":
            rows.dropped[f"longer than {max_length} tokens"] += 1
            continue
        row = _first(row, max_length)
        unlearned = row.classes is None and all(label == -100 for label in row.labels[1:])
        if unlearned or (row.words is not None and not row.classes):
            within = f" in the first {max_length} tokens" if cut else ""
            marked = " beside turns marked as not learned" if example.unlearned else ""
            rows.dropped[f"nothing to learn{within}{marked}"] += 1
            continue
        rows.truncated += cut
        rows.lost.update(row.lost)
        into.append(row, example.origin)
        encoded.append(example)
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


def _first(row: Encoded, length: int) -> Encoded:
    """A row without what is beyond its first `length` tokens."""
    types = row.token_types[:length] if row.token_types is not None else None
    row = replace(row, input_ids=row.input_ids[:length], labels=row.labels[:length], token_types=types)
    if row.words is None or row.classes is None or len(row.words) <= length:
        return row
    words = row.words[:length]
    left = max(words, default=-1) + 1
    lost = {"words": len(row.classes) - left} if left < len(row.classes) else {}
    return replace(row, words=words, classes=row.classes[:left], lost={**row.lost, **lost})


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
