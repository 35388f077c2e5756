"""From the recipe's datasets to rows of tokens, with a reason for every row that is dropped.

sources → formats → filters → the evaluation share → masking → truncation. Nothing here is random but by the seed, and
the evaluation share is chosen by a hash of each row, so a row never changes sides.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.errors import DataError, ModelError, PluginError, Problem, gist
from fttool.families import Encoded, Example, FilterContext, FormatContext, MaskingContext, RowEncoder
from fttool.reading import Loaded
from fttool.recipe import Recipe, RowsTable
from fttool.rowfile import steady
from fttool.rows import fingerprint, read_jsonl

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SHOWN_PROBLEMS = 5
"""Bad rows named in one error; the rest is likely the same mistake."""

PLAINEST = Example(
    origin="",
    messages=({"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue is one."}),
    completion_from=1,
)
"""A conversation that every chat template can write."""


class TokenRows(Sequence[Encoded]):
    """Rows of tokens in flat arrays: 5 bytes per token, and nothing for loader processes to copy.

    A row comes back as `Encoded` with labels of −100 where it is not learned.
    """

    def __init__(self) -> None:
        self.tokens = array("i")
        self.learned = array("b")
        self.ends = array("q")
        self.origins: list[str] = []

    def append(self, row: Encoded, origin: str) -> None:
        """Add one row; `labels` must be the token's own id or −100."""
        self.tokens.extend(row.input_ids)
        self.learned.extend(int(label != -100) for label in row.labels)
        self.ends.append(len(self.tokens))
        self.origins.append(origin)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = self.ends[index - 1] if index > 0 else 0
        tokens, learned = self.tokens[start : self.ends[index]], self.learned[start : self.ends[index]]
        return Encoded(list(tokens), [token if yes else -100 for token, yes in zip(tokens, learned, strict=True)])

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [end - start for start, end in zip([0, *self.ends], self.ends, strict=False)]

    @property
    def label_tokens(self) -> int:
        """Tokens that are learned, over all rows."""
        return sum(self.learned)

    def as_dataset(self) -> Dataset:
        """The tokens as a `datasets.Dataset` over the same memory, which trl's trainer asks for."""
        import numpy as np
        import pyarrow as pa
        from datasets import Dataset

        offsets = np.concatenate([[0], np.asarray(self.ends)]).astype(np.int64)
        column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.asarray(self.tokens, dtype=np.int32)))
        return Dataset(pa.table({"input_ids": column}))


@dataclass
class Rows:
    """All rows of a run."""

    train: TokenRows = field(default_factory=TokenRows)
    eval: TokenRows = field(default_factory=TokenRows)
    train_sizes: list[int] = field(default_factory=list[int])
    """Rows of each training dataset, in the recipe's order."""
    train_tokens: list[int] = field(default_factory=list[int])
    """Tokens of each training dataset."""
    dropped: Counter[str] = field(default_factory=Counter[str])
    truncated: int = 0
    sources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Path, hash and row count of each file, for `lock.json`."""
    eval_examples: list[Example] = field(default_factory=list[Example])
    """The evaluation rows before masking, for samples."""


def prepare(loaded: Loaded, tokenizer: PreTrainedTokenizerBase, *, first: int | None = None) -> Rows:
    """Read, filter, split and encode all rows of a recipe; raises `DataError` with the file and line.

    With `first`, only so many training rows are encoded, and no evaluation rows: the look that `preview` takes.
    """
    recipe = loaded.recipe
    rows = Rows()
    held_out: list[Example] = []
    for index, table in enumerate(recipe.data.eval):
        held_out += _read(loaded, table, ("data", "eval", index), rows)
    read = [_read(loaded, table, ("data", "train", index), rows) for index, table in enumerate(recipe.data.train)]
    numbered = [(index, example) for index, examples in enumerate(read) for example in examples]
    datasets: list[list[Example]] = [[] for _ in read]
    kept = _filter(loaded, numbered, rows)
    set_aside = _set_aside([_content_hash(example) for _, example in kept], recipe.data.eval_share)
    for index, example in kept:
        (held_out if _content_hash(example) in set_aside else datasets[index]).append(example)
    encode = recipe.masking.build(MaskingContext(tokenizer=tokenizer))
    forbidden = {_content_hash(example) for example in held_out}
    for examples in datasets:
        before, tokens = len(rows.train), len(rows.train.tokens)
        unseen = [example for example in examples if _content_hash(example) not in forbidden]
        rows.dropped["also in the evaluation rows"] += len(examples) - len(unseen)
        _encode(unseen, encode, recipe, rows.train, rows, first)
        rows.train_sizes.append(len(rows.train) - before)
        rows.train_tokens.append(len(rows.train.tokens) - tokens)
    if first is None:
        rows.eval_examples = _encode(held_out, encode, recipe, rows.eval, rows)
    rows.dropped = Counter({reason: count for reason, count in rows.dropped.items() if count})
    _refuse_nothing(rows, recipe.has_eval and first is None)
    return rows


def _refuse_nothing(rows: Rows, has_eval: bool) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows.dropped.most_common())
    dropped = f" (dropped: {reasons})" if reasons else ""
    if not len(rows.train):
        hint = "raise batching.max_length, lower data.eval_share, or loosen the filters: whichever drops them"
        raise DataError(Problem(f"no training row is left{dropped}", hint=hint, key=("data", "train")))
    if has_eval and not len(rows.eval):
        hint = "raise data.eval_share, or add [[data.eval]]"
        raise DataError(Problem(f"no evaluation row is left{dropped}", hint=hint, key=("data", "eval_share")))


# -- reading -------------------------------------------------------------------------------------------------------


def _read(loaded: Loaded, table: RowsTable, key: tuple[str | int, ...], rows: Rows) -> list[Example]:
    """The examples of one dataset, noted among the sources."""
    found: dict[str, Any] = {"table": ".".join(map(str, key))}
    if table.path is None:
        source = f"hub:{table.hub}"
        dataset = _hub_dataset(table, key)
        lines = ((f"{source}:{table.split}:{index}", row) for index, row in enumerate(dataset))
        examples = _examples(table, source, lines)
        published = {"revision": table.revision, "fingerprint": dataset._fingerprint}
        rows.sources.append({**found, "rows": len(examples), "source": source, **published})
        return examples
    path = loaded.folder / Path(table.path).expanduser()
    with steady(path):  # so that the hash is that of the rows which were read
        lines = ((f"{path}:{line}", row) for line, row in read_jsonl(path))
        examples = _examples(table, str(path), lines)
        rows.sources.append({**found, "rows": len(examples), "source": str(path), **fingerprint(path)})
    return examples


def _examples(table: RowsTable, source: str, raw: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Example]:
    """Raw rows through the format; every bad row is named by file and line, a few at once."""
    read_row = table.format.build(FormatContext(origin=source))
    examples: list[Example] = []
    problems: list[Problem] = []
    try:
        for origin, row in raw:
            if len(examples) == table.limit or len(problems) == SHOWN_PROBLEMS:
                break
            try:
                examples.append(read_row(row, origin))
            except ValueError as wrong:
                problems.append(Problem(str(wrong), origin))
    except DataError as broken:
        problems += broken.problems
    if problems:
        raise _bad_rows(problems)
    return examples


def _bad_rows(problems: list[Problem]) -> DataError:
    """The problems of rows, with what to do about them said once."""
    more = "; there may be more" if len(problems) == SHOWN_PROBLEMS else ""
    hint = problems[-1].hint or f"mend or delete {'this row' if len(problems) == 1 else 'these rows'}{more}"
    return DataError([*problems[:-1], replace(problems[-1], hint=hint)])


def _hub_dataset(table: RowsTable, key: tuple[str | int, ...]) -> Any:
    """A dataset on the hub; the only place where rows come over the network.

    Its `_fingerprint` is datasets' hash of the commit, files, configuration and split it was made from.
    """
    from datasets import load_dataset

    try:
        return load_dataset(str(table.hub), split=table.split, revision=table.revision)
    except Exception as fault:  # offline, gated, missing, no such split: datasets raises a dozen kinds
        message = f"cannot load the dataset '{table.hub}' ({table.split}) from the hub: {gist(fault)}"
        hint = "check the name and split; gated datasets need HF_TOKEN in the environment"
        raise DataError(Problem(message, hint=hint, key=(*key, "hub"))) from fault


def _filter(loaded: Loaded, examples: list[tuple[int, Example]], rows: Rows) -> list[tuple[int, Example]]:
    """Apply the filters in the recipe's order to the rows of all training datasets, and count what each drops."""
    for index, strategy in enumerate(loaded.recipe.filters):
        decide = strategy.build(FilterContext(seed=loaded.recipe.run.seed))
        reasons = decide([example for _, example in examples])
        if len(reasons) != len(examples):
            message = f"filter '{strategy.id()}' gave {len(reasons)} answers for {len(examples)} rows"
            raise PluginError(Problem(message, hint="tell the plugin's authors", key=("filters", index)))
        rows.dropped.update(reason for reason in reasons if reason is not None)
        examples = [numbered for numbered, reason in zip(examples, reasons, strict=True) if reason is None]
    return examples


def _content_hash(example: Example) -> bytes:
    content = [example.messages, example.prompt, example.completion]
    text = json.dumps(content, sort_keys=True, default=dict, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).digest()


def _set_aside(hashes: Sequence[bytes], share: float) -> set[bytes]:
    """About `share` of the rows by their hashes, always the same ones; at least one where there are two and a share."""
    chosen = {one for one in hashes if int.from_bytes(one[:8], "big") < share * 2**64}
    return chosen or ({min(hashes)} if share > 0 and len(set(hashes)) > 1 else set())


# -- encoding ------------------------------------------------------------------------------------------------------


def _encode(
    examples: Iterable[Example],
    encode: RowEncoder,
    recipe: Recipe,
    into: TokenRows,
    rows: Rows,
    first: int | None = None,
) -> list[Example]:
    """Mask and truncate, until `into` has the `first` rows; returns the examples that were kept."""
    max_length = recipe.batching.max_length
    kept: list[Example] = []
    problems: list[Problem] = []
    for example in examples:
        if len(into) == first:
            break
        try:
            row = encode(example)
        except ValueError as wrong:
            if example.messages:
                _refuse_template(encode, example, wrong)
            problems.append(Problem(str(wrong), example.origin))
            if len(problems) == SHOWN_PROBLEMS:
                break
            continue
        _refuse_labels(row, example, recipe)
        cut = len(row.input_ids) > max_length
        if cut and recipe.batching.too_long == "drop":
            rows.dropped[f"longer than {max_length} tokens"] += 1
            continue
        row = Encoded(row.input_ids[:max_length], row.labels[:max_length])
        if all(label == -100 for label in row.labels[1:]):
            rows.dropped["nothing to learn" + (f" in the first {max_length} tokens" if cut else "")] += 1
            continue
        rows.truncated += cut
        into.append(row, example.origin)
        kept.append(example)
    if problems:
        raise _bad_rows(problems)
    return kept


def _refuse_template(encode: RowEncoder, example: Example, wrong: ValueError) -> None:
    """Raise `ModelError` where it is not the row that is wrong: the plainest conversation cannot be written either."""
    try:
        encode(PLAINEST)
    except ValueError:
        hint = 'choose one that can: model.chat_template = "chatml", or a Jinja file'
        message = f"the chat template fails already at a question and its answer: {wrong} ({example.origin})"
        raise ModelError(Problem(message, hint=hint, key=("model", "chat_template"))) from wrong


def _refuse_labels(row: Encoded, example: Example, recipe: Recipe) -> None:
    """Raise `PluginError` for labels that are not the tokens' own: `TokenRows` would store others than were meant."""
    if len(row.labels) != len(row.input_ids) or any(
        label not in (-100, token) for token, label in zip(row.input_ids, row.labels, strict=True)
    ):
        message = f"masking '{recipe.masking.id()}' gave labels that are not the tokens' own or −100 ({example.origin})"
        raise PluginError(Problem(message, hint="labels are not shifted, one per token", key=("masking",)))
