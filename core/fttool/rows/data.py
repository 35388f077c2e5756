"""From the recipe's datasets to rows of tokens, with a reason for every row that is dropped.

sources → formats → filters → the evaluation share → masking → truncation. Nothing here is random but by the seed, and
the evaluation share is chosen by a hash of each row as it was read, so a row never changes sides.

Filters choose what is learned from, so they see the training rows only: general and retention rows stand for what the
model knew, and a filter would bend that picture. Whatever is measured is kept out of whatever may be learned from.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Example, MaskingContext, RowEncoder
from fttool.contracts.strategy import Track
from fttool.recipe.loaded import Loaded
from fttool.rows.checks.abilities import proving
from fttool.rows.checks.classes import joined
from fttool.rows.checks.nothing_left import refuse_nothing_left
from fttool.rows.datasets import Reading, read_dataset, unread_general
from fttool.rows.encoding import encode_rows, untracked
from fttool.rows.filtering import content_hash, filter_context, filtered_rows, set_aside
from fttool.rows.gone import Gone
from fttool.rows.rows import Rows
from fttool.rows.spooled import Joined, Spool
from fttool.rows.templates import shared_variables
from fttool.rows.tokens import JoinedRows, TokenRows
from fttool.yielded import built

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLED = 200
"""Rows that are learned from of which it is seen whether inference asks for them in the tokens of training."""

IN_EVALUATION, IN_RETENTION = "also in the evaluation rows", "also in the retention rows"
"""Reasons to drop a row: what is measured must not be learned from."""


def prepare(
    loaded: Loaded, tokenizer: PreTrainedTokenizerBase, *, first: int | None = None, track: Track = untracked
) -> Rows:
    """Read, filter, split and encode all rows of a recipe; raises `DataError` with the file and line.

    With `first`, only so many rows are encoded of the training rows and of each general and retention dataset, and no
    evaluation rows: the look that `preview` takes.
    """
    recipe, rows = loaded.recipe, Rows(notices=list(loaded.said))
    read = [read_dataset(loaded, table, place, tokenizer) for place, table in recipe.data.datasets()]
    for reading in read:
        rows.dropped.update(reading.left_out)
    divided = _divide(loaded, tokenizer, track, read, rows)
    context = MaskingContext(tokenizer=tokenizer, max_length=recipe.batching.max_length, **loaded.common)
    _encode_all(divided, proving(built(recipe.masking, context), tokenizer), recipe, rows, first, track)
    taught = divided.taught(with_general=recipe.mixing.uses_general)
    rows.template_variables = shared_variables(taught)
    rows.sampled = random.Random(recipe.run.seed).sample(taught, min(SAMPLED, len(taught)))
    for reading in read:
        rows.sources.append(reading.as_source())
        rows.notices += reading.notices()
        rows.dropped.update(reading.bad.counts())
        rows.gone.extend(chain(reading.gone, reading.bad.gone))
    classes = joined(reading.classes for reading, _ in divided.train)
    rows.notices += [*classes.notices(), *unread_general(recipe)]
    rows.dropped = Counter({reason: count for reason, count in rows.dropped.items() if count})
    refuse_nothing_left(rows, recipe.has_eval and first is None)
    return rows


Parts: TypeAlias = list[tuple[Reading, Spool[Example]]]
"""Rows of several datasets."""


@dataclass(frozen=True, slots=True)
class _Divided:
    """The examples by what becomes of them; no example is in two places."""

    train: Parts
    held_out: Parts
    """Of evaluation datasets, and what is set aside of training datasets."""
    general: Parts
    retention: Parts

    def taught(self, *, with_general: bool) -> Joined[Example]:
        """All that is learned from."""
        return Joined([examples for _, examples in (*self.train, *(self.general if with_general else ()))])


def _divide(
    loaded: Loaded, tokenizer: PreTrainedTokenizerBase, track: Track, read: Sequence[Reading], rows: Rows
) -> _Divided:
    """Filter the training rows, and keep what is measured out of what is learned from; what is dropped is counted."""
    train, evaluated, general, retention = (
        [reading for reading in read if reading.key[1] == part] for part in ("train", "eval", "general", "retention")
    )
    measured = Joined([reading.examples for reading in (*retention, *evaluated)])
    # Before filters change or drop a row: so they know which rows will be measured on, and move none to the other side.
    share = loaded.recipe.data.eval_share
    aside = set_aside(Joined([reading.examples for reading in train]), share)
    context = filter_context(loaded, tokenizer, measured, aside, track)
    pool = filtered_rows(context, loaded.recipe.filters, train, rows, aside)
    retained = _contents(retention)
    aside = _left_aside(Joined(pool), retained, aside, share)
    reasons = {**dict.fromkeys(_contents(evaluated), IN_EVALUATION), **dict.fromkeys(retained, IN_RETENTION)}
    learned, beside = Parts(), Parts()
    for reading, examples in zip(train, pool, strict=True):
        beside.append((reading, Spool[Example]()))
        learned.append((reading, _unmeasured(reading, examples, reasons, rows, aside, beside[-1][1])))
    reasons = {**dict.fromkeys(map(content_hash, Joined([kept for _, kept in beside])), IN_EVALUATION), **reasons}
    return _Divided(
        train=learned,
        held_out=[*((reading, reading.examples) for reading in evaluated), *beside],
        general=[(reading, _unmeasured(reading, reading.examples, reasons, rows)) for reading in general],
        retention=[(reading, reading.examples) for reading in retention],
    )


def _contents(read: Iterable[Reading]) -> set[bytes]:
    return {content_hash(example) for reading in read for example in reading.examples}


def _left_aside(examples: Sequence[Example], retained: set[bytes], aside: set[bytes], share: float) -> set[bytes]:
    """What is set aside of the rows that filters have kept: others, where they have dropped all that was."""
    there = aside - retained
    if share == 0 or any(content in there for content in map(content_hash, examples)):
        return aside
    return set_aside((example for example in examples if content_hash(example) not in retained), share)


def _unmeasured(
    of: Reading,
    examples: Spool[Example],
    reasons: Mapping[bytes, str],
    rows: Rows,
    aside: Collection[bytes] = (),
    beside: Spool[Example] | None = None,
) -> Spool[Example]:
    """The rows of a dataset that may be learned from: those whose content has no reason against it, which drops them,
    and is not set aside, which moves them there.
    """
    if not reasons and not aside:
        return examples
    left = Spool[Example]()
    for example in examples:
        content = content_hash(example)
        reason = reasons.get(content)
        if beside is not None and content in aside and reason != IN_RETENTION:
            beside.append(example)
        elif reason is not None:
            by = "evaluation" if reason == IN_EVALUATION else "retention"
            rows.drop(Gone.of(of.table.dataset, example, reason, by))
        else:
            left.append(example)
    return left


def _encode_all(
    divided: _Divided, encode: RowEncoder, recipe: Recipe, rows: Rows, first: int | None, track: Track
) -> None:
    """Fill `rows` with tokens."""
    for reading, examples in divided.train:
        before, tokens = len(rows.train), len(rows.train.tokens)
        encode_rows(reading, examples, encode, recipe, rows.train, rows, first, track=track)
        rows.train_sizes.append(len(rows.train) - before)
        rows.train_tokens.append(len(rows.train.tokens) - tokens)
    for into, datasets in ((rows.general, divided.general), (rows.retention, divided.retention)):
        for reading, examples in datasets:
            encoded = into.setdefault(reading.table.dataset, TokenRows())
            encode_rows(reading, examples, encode, recipe, encoded, rows, first, track=track)
    replayed = list(rows.general.values()) if recipe.mixing.uses_general else []
    rows.learned = JoinedRows([rows.train, *replayed])
    rows.learned_sizes = [*rows.train_sizes, *map(len, replayed)]
    for reading, examples in divided.held_out if first is None else ():
        encode_rows(reading, examples, encode, recipe, rows.eval, rows, kept=rows.eval_examples, track=track)
