"""From examples to rows of tokens: masked, truncated, or dropped with a reason."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Encoded, Example, RowEncoder
from fttool.errors import ModelError, Problem
from fttool.rows.checks.bad import BadRows
from fttool.rows.datasets import Reading
from fttool.rows.gone import Gone
from fttool.rows.lengths import Fitted, fitted
from fttool.rows.rows import Rows
from fttool.rows.tokens import TokenRows
from fttool.rows.workers import mapped
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
    encoded: list[Example] = []
    faulty: dict[str, BadRows] = {}
    attempts = _attempts(_split(examples, recipe, rows), partial(_attempt, recipe, encode), recipe, first)
    for dataset, example, made in attempts:
        if len(into) == first:
            break
        if isinstance(made, ValueError):
            dataset.bad.add(Gone.of(dataset.table.dataset, example, str(made), "bad"), made)
            faulty[dataset.table.dataset] = dataset.bad
            if dataset.bad.enough:
                break
            continue
        became = made.became.rows
        if not became or not all(_teaches(part) for part, _ in became):
            reason = _nothing_left(recipe, example, made.too_long, bool(became))
            rows.drop(Gone.of(dataset.table.dataset, example, reason, "length"), made.tokens)
            continue
        for part, of in became:
            into.append(part, (of or example).origin)
            encoded.append(of or example)
        rows.count_fitted(made.became, made.too_long)
    attempts.close()
    for bad in faulty.values():
        bad.settle()
    return encoded


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of an example."""

    tokens: int
    """Before anything was cut."""
    too_long: bool
    became: Fitted


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


def _attempts(
    pairs: Iterator[tuple[Reading, Example]],
    attempt: Callable[[Example], _Made | ValueError],
    recipe: Recipe,
    first: int | None,
) -> Generator[tuple[Reading, Example, _Made | ValueError]]:
    """Each example with what became of it, in order; one after another where only the `first` rows are wanted."""
    if first is not None:
        for dataset, example in pairs:
            yield dataset, example, attempt(example)
        return
    listed = list(pairs)
    results = mapped(attempt, [example for _, example in listed], recipe.data.workers)
    with closing(results):
        for (dataset, example), made in zip(listed, results, strict=True):
            yield dataset, example, made


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
