"""From the recipe's datasets to rows of tokens, with a reason for every row that is dropped.

sources → formats → filters → the evaluation share → masking → truncation. Nothing here is random but by the seed, and
the evaluation share is chosen by a hash of each row as it was read, so a row never changes sides.

Filters choose what is learned from, so they see the training rows only: general and retention rows stand for what the
model knew, and a filter would bend that picture. Whatever is measured is kept out of whatever may be learned from.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Example, MaskingContext, RowEncoder
from fttool.contracts.strategy import Track
from fttool.errors import DataError, Problem
from fttool.recipe.loaded import Loaded
from fttool.rows.checks.abilities import proving
from fttool.rows.checks.calls import CallForm
from fttool.rows.checks.classes import joined
from fttool.rows.datasets import ALL_MARKED, MARKED, MARKS_HINT, Reading, read_dataset, unread_general
from fttool.rows.encoding import encode_rows, from_dataset
from fttool.rows.filtering import content_hash, filter_context, filtered_rows, left_aside, set_aside
from fttool.rows.gone import Gone
from fttool.rows.rows import Rows
from fttool.rows.templates import shared_variables
from fttool.rows.tokens import JoinedRows, TokenRows
from fttool.yielded import built

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
SAMPLED = 200
"""Rows that are learned from of which it is seen whether inference asks for them in the tokens of training."""

IN_EVALUATION, IN_RETENTION = "also in the evaluation rows", "also in the retention rows"
"""Reasons to drop a row: what is measured must not be learned from."""


def untracked(items: Sequence[T], what: str) -> Iterable[T]:
    """The items, shown nowhere."""
    return items


def prepare(
    loaded: Loaded, tokenizer: PreTrainedTokenizerBase, *, first: int | None = None, track: Track = untracked
) -> Rows:
    """Read, filter, split and encode all rows of a recipe; raises `DataError` with the file and line.

    With `first`, only so many rows are encoded of the training rows and of each general and retention dataset, and no
    evaluation rows: the look that `preview` takes.
    """
    recipe, rows, form = loaded.recipe, Rows(notices=list(loaded.said)), CallForm(tokenizer)
    read = [read_dataset(loaded, table, place, tokenizer) for place, table in recipe.data.datasets()]
    for reading in read:
        rows.dropped.update(reading.left_out)
        reading.examples = [form.shaped(example) for example in reading.examples]
    divided = _divide(loaded, tokenizer, track, read, rows)
    context = MaskingContext(tokenizer=tokenizer, max_length=recipe.batching.max_length, **loaded.common)
    _encode_all(divided, proving(built(recipe.masking, context), tokenizer), recipe, rows, first)
    taught = divided.taught(with_general=recipe.mixing.uses_general)
    rows.template_variables = shared_variables(taught)
    rows.sampled = random.Random(recipe.run.seed).sample(taught, min(SAMPLED, len(taught)))
    for reading in read:
        rows.sources.append(reading.as_source())
        rows.notices += reading.notices()
        rows.dropped.update(reading.bad.counts())
        rows.gone += [*reading.gone, *reading.bad.gone]
    classes = joined(reading.classes for reading, _ in divided.train)
    rows.notices += [*classes.notices(), *unread_general(recipe)]
    rows.dropped = Counter({reason: count for reason, count in rows.dropped.items() if count})
    _refuse_nothing(rows, recipe.has_eval and first is None)
    return rows


@dataclass(frozen=True, slots=True)
class _Divided:
    """The examples by what becomes of them; no example is in two lists."""

    train: Sequence[tuple[Reading, list[Example]]]
    held_out: Sequence[tuple[Reading, Example]]
    general: Sequence[tuple[Reading, list[Example]]]
    retention: Sequence[tuple[Reading, list[Example]]]

    def taught(self, *, with_general: bool) -> list[Example]:
        """All that is learned from."""
        learned = [*self.train, *(self.general if with_general else [])]
        return [example for _, examples in learned for example in examples]


def _divide(
    loaded: Loaded, tokenizer: PreTrainedTokenizerBase, track: Track, read: Sequence[Reading], rows: Rows
) -> _Divided:
    """Filter the training rows, and keep what is measured out of what is learned from; what is dropped is counted."""
    train, evaluated, general, retention = (
        [reading for reading in read if reading.key[1] == part] for part in ("train", "eval", "general", "retention")
    )
    held_out = [(reading, example) for reading in evaluated for example in reading.examples]
    retained_rows = [example for reading in retention for example in reading.examples]
    retained = set(map(content_hash, retained_rows))
    numbered = [(index, example) for index, reading in enumerate(train) for example in reading.examples]
    measured = [*retained_rows, *(example for _, example in held_out)]
    names = [reading.table.dataset for reading in train]
    # Before filters change or drop a row: so they know which rows will be measured on, and move none to the other side.
    aside = set_aside((example for _, example in numbered), loaded.recipe.data.eval_share)
    context = filter_context(loaded, tokenizer, measured, aside, track)
    filtered = filtered_rows(context, loaded.recipe.filters, numbered, rows, names, aside)
    remaining = [pair for pair in filtered if not _taken(pair[1], retained, IN_RETENTION, rows, train[pair[0]])]
    aside = left_aside([example for _, example in remaining], aside, loaded.recipe.data.eval_share)
    learned: list[list[Example]] = [[] for _ in train]
    for index, example in remaining:
        if content_hash(example) in aside:
            held_out.append((train[index], example))
        else:
            learned[index].append(example)
    forbidden = {content_hash(example) for _, example in held_out}

    def unseen(examples: list[Example], of: Reading) -> list[Example]:
        return _without(examples, forbidden, IN_EVALUATION, rows, of)

    return _Divided(
        train=[(reading, unseen(examples, reading)) for reading, examples in zip(train, learned, strict=True)],
        held_out=held_out,
        general=[
            (reading, unseen(_without(reading.examples, retained, IN_RETENTION, rows, reading), reading))
            for reading in general
        ],
        retention=[(reading, reading.examples) for reading in retention],
    )


def _encode_all(divided: _Divided, encode: RowEncoder, recipe: Recipe, rows: Rows, first: int | None) -> None:
    """Fill `rows` with tokens."""
    for reading, examples in divided.train:
        before, tokens = len(rows.train), len(rows.train.tokens)
        encode_rows(from_dataset(reading, examples), encode, recipe, rows.train, rows, first)
        rows.train_sizes.append(len(rows.train) - before)
        rows.train_tokens.append(len(rows.train.tokens) - tokens)
    for into, datasets in ((rows.general, divided.general), (rows.retention, divided.retention)):
        for reading, examples in datasets:
            encoded = into.setdefault(reading.table.dataset, TokenRows())
            encode_rows(from_dataset(reading, examples), encode, recipe, encoded, rows, first)
    replayed = list(rows.general.values()) if recipe.mixing.uses_general else []
    rows.learned = JoinedRows([rows.train, *replayed])
    rows.learned_sizes = [*rows.train_sizes, *map(len, replayed)]
    if first is None:
        rows.eval_examples = encode_rows(divided.held_out, encode, recipe, rows.eval, rows)


def _refuse_nothing(rows: Rows, has_eval: bool) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows.dropped.most_common())
    dropped = f" (dropped: {reasons})" if reasons else ""
    if not len(rows.train):
        hint = "raise batching.max_length, lower data.eval_share, or loosen the filters: whichever drops them"
        hint = MARKS_HINT if rows.dropped and rows.dropped.keys() <= {MARKED, ALL_MARKED} else hint
        raise DataError(Problem(f"no training row is left{dropped}", hint=hint, key=("data", "train")))
    if has_eval and not len(rows.eval):
        hint = "raise data.eval_share, or add [[data.eval]]"
        raise DataError(Problem(f"no evaluation row is left{dropped}", hint=hint, key=("data", "eval_share")))
    for part, datasets in (("general", rows.general), ("retention", rows.retention)):
        for index, (name, encoded) in enumerate(datasets.items()):
            if not len(encoded):
                message = f"no row of the {part} dataset '{name}' is left{dropped}"
                raise DataError(Problem(message, hint="give it other rows", key=("data", part, index)))


def _without(examples: list[Example], taken: set[bytes], reason: str, rows: Rows, of: Reading) -> list[Example]:
    """The examples of a dataset whose content is not among `taken`; the others are dropped."""
    return [example for example in examples if not _taken(example, taken, reason, rows, of)]


def _taken(example: Example, taken: set[bytes], reason: str, rows: Rows, dataset: Reading) -> bool:
    """Whether its content is among those; if so it is dropped."""
    if not taken or content_hash(example) not in taken:
        return False
    rows.drop(Gone.of(dataset.table.dataset, example, reason, "evaluation" if reason == IN_EVALUATION else "retention"))
    return True
