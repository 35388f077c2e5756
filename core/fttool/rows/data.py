"""From the recipe's datasets to rows of tokens, with a reason for every row that is dropped.

sources → formats → filters → the evaluation share → masking → truncation. Nothing here is random but by the seed, and
the evaluation share is chosen by a hash of each row, so a row never changes sides.

Filters choose what is learned from, so they see the training rows only: general and retention rows stand for what the
model knew, and a filter would bend that picture. Whatever is measured is kept out of whatever may be learned from.
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Encoded, Example, Filter, FilterContext, MaskingContext, RowEncoder
from fttool.contracts.strategy import Track
from fttool.errors import DataError, ModelError, Problem
from fttool.recipe.loaded import Loaded
from fttool.rows.checks.abilities import proving
from fttool.rows.checks.bad import BadRows, alike, mend
from fttool.rows.checks.calls import CallForm
from fttool.rows.checks.classes import joined
from fttool.rows.datasets import ALL_MARKED, MARKED, MARKS_HINT, Reading, plain_prompts, read_dataset, unread_general
from fttool.rows.prompts import whole_length
from fttool.rows.templates import shared_variables
from fttool.yielded import built, check_row, check_verdicts

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
SAMPLED = 200
"""Rows that are learned from of which it is seen whether inference asks for them in the tokens of training."""

IN_EVALUATION, IN_RETENTION = "also in the evaluation rows", "also in the retention rows"
"""Reasons to drop a row: what is measured must not be learned from."""

PLAINEST = Example(
    origin="",
    messages=({"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue is one."}),
    completion_from=1,
)
"""A conversation that every chat template can write."""
PLAINEST_TEXT = Example(origin="", prompt="Name a colour. ", completion="Blue is one.")
"""The same without a chat template."""


class TokenRows(Sequence[Encoded]):
    """Rows of tokens in flat arrays: 5 bytes per token, and nothing for loader processes to copy.

    A row comes back as `Encoded` with labels of −100 where it is not learned.
    """

    def __init__(self) -> None:
        self.tokens = array("i")
        self.learned = array("b")
        self.ends = array("q")
        self.origins: list[str] = []
        self.classes: list[tuple[str, ...] | None] = []
        """Of each row; equal ones are one object."""
        self.token_types = array("b")
        """As long as the tokens of the rows up to the last one that has any."""
        self.words = array("i")
        """Of each token the number of its word, −1 for none; as long as `token_types` is, where words have classes."""
        self.remarks = Counter[str]()
        """What is to be known of the rows, with the number of them."""
        self._same: dict[tuple[str, ...] | None, tuple[str, ...] | None] = {}

    def append(self, row: Encoded, origin: str) -> None:
        """Add one row; `labels` must be the token's own id or −100."""
        if row.token_types is not None:
            self.token_types.frombytes(bytes(len(self.tokens) - len(self.token_types)))
            self.token_types.extend(row.token_types)
        if row.words is not None:
            self.words.extend([-1] * (len(self.tokens) - len(self.words)))
            self.words.extend(row.words)
        self.classes.append(self._same.setdefault(row.classes, row.classes))
        self.tokens.extend(row.input_ids)
        self.learned.extend(int(label != -100) for label in row.labels)
        self.ends.append(len(self.tokens))
        self.origins.append(origin)
        self.remarks.update(set(row.remarks))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = self.ends[index - 1] if index > 0 else 0
        tokens, learned = self.tokens[start : self.ends[index]], self.learned[start : self.ends[index]]
        types = self.token_types[start : self.ends[index]].tolist()
        words = self.words[start : self.ends[index]].tolist()
        return Encoded(
            list(tokens),
            [token if yes else -100 for token, yes in zip(tokens, learned, strict=True)],
            classes=self.classes[index],
            token_types=types if any(types) else None,
            words=words or None,
        )

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [end - start for start, end in zip([0, *self.ends], self.ends, strict=False)]

    @property
    def label_tokens(self) -> int:
        """Tokens that are learned, over all rows."""
        return sum(self.learned)

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows, or words, of each class; empty where there are no classes."""
        return dict(Counter(name for classes in self.classes for name in classes or ()))

    def as_dataset(self) -> Dataset:
        """The tokens as a `datasets.Dataset` over the same memory, which trl's trainer asks for."""
        import numpy as np
        import pyarrow as pa
        from datasets import Dataset

        offsets = np.concatenate([[0], np.asarray(self.ends)]).astype(np.int64)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.asarray(self.tokens, dtype=np.int32)))
        return Dataset(pa.table({"input_ids": column}))


class JoinedRows(Sequence[Encoded]):
    """Several `TokenRows` one after another, without a copy of them: row i of the second has index len(first) + i."""

    def __init__(self, parts: Iterable[TokenRows] = ()) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(map(len, self.parts)))
        self.lengths = [length for part in self.parts for length in part.lengths]
        """Tokens of each row."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part, row = self._place(index)
        return part[row]

    @property
    def remarks(self) -> dict[str, int]:
        """What is to be known of the rows, with the number of them."""
        return dict(sum((part.remarks for part in self.parts), Counter[str]()))

    def origin(self, index: int) -> str:
        """`file:line` of a row."""
        part, row = self._place(index)
        return part.origins[row]

    def _place(self, index: int) -> tuple[TokenRows, int]:
        which = bisect_right(self.ends, index)
        return self.parts[which], index - (self.ends[which - 1] if which else 0)


@dataclass
class Rows:
    """All rows of a run."""

    train: TokenRows = field(default_factory=TokenRows)
    eval: TokenRows = field(default_factory=TokenRows)
    general: dict[str, TokenRows] = field(default_factory=dict[str, TokenRows])
    """What stands for what the model knew, by dataset."""
    retention: dict[str, TokenRows] = field(default_factory=dict[str, TokenRows])
    """The same, only measured, by dataset."""
    learned: JoinedRows = field(default_factory=JoinedRows)
    """What may be learned from: the training rows, and behind them the general rows where mixing replays them."""
    learned_sizes: list[int] = field(default_factory=list[int])
    """Rows of each dataset in `learned`, in its order."""
    train_sizes: list[int] = field(default_factory=list[int])
    """Rows of each training dataset, in the recipe's order."""
    train_tokens: list[int] = field(default_factory=list[int])
    """Tokens of each training dataset."""
    dropped: Counter[str] = field(default_factory=Counter[str])
    truncated: int = 0
    lost: Counter[str] = field(default_factory=Counter[str])
    """What truncation has taken of these rows beside their tokens, by kind."""
    sources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Path, hash and row count of each file, for `lock.json`."""
    eval_examples: list[Example] = field(default_factory=list[Example])
    """The evaluation rows before masking, for samples."""
    sampled: list[Example] = field(default_factory=list[Example])
    """Some of the rows that are learned from, before masking, chosen by the seed: what inference sees is compared with
    what training sees of them."""
    template_variables: dict[str, Any] = field(default_factory=dict[str, Any])
    """The variables for the chat template that all conversations that are learned from have with one value."""
    split: int = 0
    """Conversations that masking has made several rows of."""
    notices: list[str] = field(default_factory=list[str])
    """What a user should know of the datasets, in sentences."""
    bad: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Rows that were left out as bad: dataset, place and reason of each."""

    @property
    def measurable(self) -> bool:
        """True where there are rows to measure on."""
        return bool(len(self.eval) or self.retention)

    @property
    def other_encodings(self) -> dict[str, int]:
        """Text files that were read in another encoding than UTF-8."""
        counts = Counter[str]()
        for source in self.sources:
            counts.update(source.get("encodings", {}))
        return {encoding: count for encoding, count in counts.items() if encoding != "utf-8"}

    def refuse_classes(self, targets: Callable[[Sequence[tuple[str, ...]]], Any]) -> None:
        """Raise `DataError` for rows whose classes the task cannot learn or measure, alike ones together."""
        wrong: list[tuple[str, str]] = []
        for some in (self.train, self.eval, *self.general.values(), *self.retention.values()):
            good: set[tuple[str, ...]] = set()
            for classes, origin in zip(some.classes, some.origins, strict=True):
                if classes is None or classes in good:
                    continue
                try:
                    targets([classes])
                    good.add(classes)
                except ValueError as refused:
                    wrong.append((origin, str(refused)))
        if wrong:
            problems = alike(wrong)
            raise DataError([*problems[:-1], replace(problems[-1], hint=mend(len(wrong)))])


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
    recipe = loaded.recipe
    rows = Rows()
    read = [read_dataset(loaded, table, place) for place, table in recipe.data.datasets()]
    for one in read:
        rows.dropped.update(one.left_out)
    form = CallForm(tokenizer)
    for one in read:
        one.examples = [form.shaped(example) for example in one.examples]

    def of(part: str) -> dict[str, Reading]:
        """Each dataset of a list, by its name."""
        return {one.table.dataset: one for one in read if one.key[1] == part}

    train = list(of("train").values())
    held_out = [(one, example) for one in of("eval").values() for example in one.examples]
    numbered = [(index, example) for index, one in enumerate(train) for example in one.examples]
    datasets: list[list[Example]] = [[] for _ in train]
    retained = {_content_hash(example) for one in of("retention").values() for example in one.examples}
    measured = retained | {_content_hash(example) for _, example in held_out}
    filtered = _filter(_filter_context(loaded, tokenizer, measured, track), recipe.filters, numbered, rows)
    kept = [one for one in filtered if not retained or _content_hash(one[1]) not in retained]
    rows.dropped[IN_RETENTION] += len(filtered) - len(kept)
    set_aside = _set_aside([_content_hash(example) for _, example in kept], recipe.data.eval_share)
    for index, example in kept:
        if _content_hash(example) in set_aside:
            held_out.append((train[index], example))
        else:
            datasets[index].append(example)
    context = MaskingContext(tokenizer=tokenizer, max_length=recipe.batching.max_length)
    encode = proving(built(recipe.masking, context), tokenizer)
    forbidden = {_content_hash(example) for _, example in held_out}
    taught: list[Example] = []
    for one, examples in zip(train, datasets, strict=True):
        before, tokens = len(rows.train), len(rows.train.tokens)
        unseen = _without(examples, forbidden, IN_EVALUATION, rows)
        taught += unseen
        _encode(_from(one, unseen), encode, recipe, rows.train, rows, first)
        rows.train_sizes.append(len(rows.train) - before)
        rows.train_tokens.append(len(rows.train.tokens) - tokens)
    for name, one in of("general").items():
        unseen = _without(_without(one.examples, retained, IN_RETENTION, rows), forbidden, IN_EVALUATION, rows)
        taught += unseen if recipe.mixing.uses_general else []
        _encode(_from(one, unseen), encode, recipe, rows.general.setdefault(name, TokenRows()), rows, first)
    for name, one in of("retention").items():
        _encode(_from(one, one.examples), encode, recipe, rows.retention.setdefault(name, TokenRows()), rows, first)
    replayed = list(rows.general.values()) if recipe.mixing.uses_general else []
    rows.learned = JoinedRows([rows.train, *replayed])
    rows.learned_sizes = [*rows.train_sizes, *map(len, replayed)]
    rows.template_variables = shared_variables(taught)
    rows.sampled = random.Random(recipe.run.seed).sample(taught, min(SAMPLED, len(taught)))
    if first is None:
        rows.eval_examples = _encode(held_out, encode, recipe, rows.eval, rows)
    for one in read:
        rows.sources.append(one.as_source())
        rows.notices += one.notices()
        rows.dropped.update(one.bad.counts())
        rows.bad += one.bad.as_data()
    rows.notices += [*joined(one.classes for one in train).notices(), *plain_prompts(read, tokenizer)]
    rows.notices += unread_general(recipe)
    rows.dropped = Counter({reason: count for reason, count in rows.dropped.items() if count})
    _refuse_nothing(rows, recipe.has_eval and first is None)
    return rows


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


def _filter_context(
    loaded: Loaded, tokenizer: PreTrainedTokenizerBase, measured: set[bytes], track: Track
) -> FilterContext:
    share = loaded.recipe.data.eval_share
    return FilterContext(
        seed=loaded.recipe.run.seed,
        folder=loaded.folder,
        tokenizer=tokenizer,
        tokens=lambda example: whole_length(example, tokenizer),
        measured=lambda example: _is_measured(_content_hash(example), measured, share),
        track=track,
    )


def _filter(
    context: FilterContext, filters: Iterable[Filter], examples: list[tuple[int, Example]], rows: Rows
) -> list[tuple[int, Example]]:
    """Apply the filters in the recipe's order to the rows of all training datasets, and count what each drops."""
    for strategy in filters:
        decide = built(strategy, context)
        reasons = decide([example for _, example in examples])
        check_verdicts(strategy, reasons, len(examples))
        rows.dropped.update(reason for reason in reasons if reason is not None)
        examples = [numbered for numbered, reason in zip(examples, reasons, strict=True) if reason is None]
    return examples


def _without(examples: list[Example], taken: set[bytes], reason: str, rows: Rows) -> list[Example]:
    """The examples whose content is not among `taken`; the others are counted as dropped."""
    left = [example for example in examples if _content_hash(example) not in taken] if taken else examples
    rows.dropped[reason] += len(examples) - len(left)
    return left


def _content_hash(example: Example) -> bytes:
    content = [example.messages, example.prompt, example.completion, *filter(None, [example.second])]
    text = json.dumps(content, sort_keys=True, default=dict, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).digest()


def _set_aside(hashes: Sequence[bytes], share: float) -> set[bytes]:
    """About `share` of the rows by their hashes, always the same ones; at least one where there are two and a share."""
    chosen = {one for one in hashes if _is_measured(one, set(), share)}
    return chosen or ({min(hashes)} if share > 0 and len(set(hashes)) > 1 else set())


def _is_measured(content: bytes, measured: set[bytes], share: float) -> bool:
    """Whether a row of this content is among those that are, or its hash is in the share that is set aside."""
    return content in measured or int.from_bytes(content[:8], "big") < share * 2**64


# -- encoding ------------------------------------------------------------------------------------------------------


def _from(dataset: Reading, examples: Iterable[Example]) -> Iterator[tuple[Reading, Example]]:
    return ((dataset, example) for example in examples)


def _encode(
    examples: Iterable[tuple[Reading, Example]],
    encode: RowEncoder,
    recipe: Recipe,
    into: TokenRows,
    rows: Rows,
    first: int | None = None,
) -> list[Example]:
    """Mask and truncate, until `into` has the `first` rows; returns the examples that were kept."""
    max_length = recipe.batching.max_length
    kept: list[Example] = []
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
        kept.append(example)
    for bad in faulty.values():
        bad.settle()
    return kept


def _split(
    examples: Iterable[tuple[Reading, Example]], recipe: Recipe, rows: Rows
) -> Iterator[tuple[Reading, Example]]:
    """The rows that masking makes of the examples, and how many examples became several."""
    for dataset, example in examples:
        parts = recipe.masking.split(example)
        rows.split += len(parts) > 1
        yield from _from(dataset, parts)


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
        message = f"the chat template fails already at a question and its answer: {wrong} ({example.origin})"
        raise ModelError(Problem(message, hint=hint, key=("model", "chat_template"))) from wrong


def _encodes(encode: RowEncoder, example: Example) -> bool:
    try:
        encode(example)
    except ValueError:
        return False
    return True
