"""Which of the training rows are learned from: what filters say, and the share that is measured on instead."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fttool.contracts.model import Source, SourceContext
from fttool.contracts.rows import Example, Filter, FilterContext, Kept
from fttool.contracts.strategy import Track
from fttool.disk import user_folder
from fttool.recipe.loaded import Loaded
from fttool.rows.datasets import Reading
from fttool.rows.gone import Flagged, Gone
from fttool.rows.prompts import whole_length
from fttool.rows.rows import Rows
from fttool.rows.spooled import Joined, Spool, keep_example
from fttool.rows.workers import mapped
from fttool.yielded import built, check_verdicts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Result = TypeVar("_Result")


def filter_context(
    loaded: Loaded,
    tokenizer: PreTrainedTokenizerBase,
    measured_rows: Sequence[Example],
    aside: Collection[bytes],
    track: Track,
) -> FilterContext:
    """What filters know; `measured_rows` are measured on, and rows whose content is in `aside` will be."""
    measured = set(map(content_hash, measured_rows))

    def is_measured(example: Example) -> bool:
        content = content_hash(example) if measured or aside else b""
        return content in measured or content in aside

    def each(function: Callable[[Example], _Result], examples: Sequence[Example], what: str) -> Generator[_Result]:
        with closing(mapped(function, examples, loaded.recipe.data.workers)) as results:
            for _, result in zip(track(range(len(examples)), what), results, strict=True):
                yield result

    return FilterContext(
        tokenizer=tokenizer,
        tokens=lambda example: whole_length(example, tokenizer),
        measured_rows=measured_rows,
        measured=is_measured,
        each=each,
        source=partial(build_source, loaded),
        cache=partial(cache_folder, "filters"),
        track=track,
        **loaded.common,
    )


def build_source(loaded: Loaded) -> Source:
    """The loaders of the recipe's tokenizer and model."""
    model = loaded.recipe.model
    return built(model.source, SourceContext(trust_remote_code=model.trust_remote_code, **loaded.common))


def cache_folder(name: str) -> Path:
    """A folder in the user's cache, made where it is missing; for a user without a home a temporary one."""
    above = user_folder("XDG_CACHE_HOME", ".cache")
    folder = Path(tempfile.mkdtemp(prefix="fttool-")) if above is None else above / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def filtered_rows(
    context: FilterContext, filters: Iterable[Filter], train: Sequence[Reading], rows: Rows, aside: set[bytes]
) -> list[Spool[Example]]:
    """Apply the filters in the recipe's order to the rows of all training datasets, and count what becomes of them.

    A row that is measured on elsewhere stays as it is, so that it is still known as such, and kept from being learned.
    One that is set `aside` is so in its new form too, which is added there.
    """
    pool = [reading.examples for reading in train]
    for strategy in filters:
        own = partial(cache_folder, f"filters/{strategy.id()}")
        decide = built(strategy, replace(context, cache=own))
        joined = Joined(pool)
        verdicts = decide(joined)
        check_verdicts(strategy, verdicts, joined)
        left, kept = iter(verdicts), [Spool[Example]() for _ in pool]
        for reading, examples, into in zip(train, pool, kept, strict=True):
            for example, verdict in zip(examples, islice(left, len(examples)), strict=True):
                if isinstance(verdict, str):
                    rows.drop(Gone.of(reading.table.dataset, example, verdict, strategy.id()))
                    continue
                stays = _kept(strategy, reading, example, verdict, context, rows, aside) if verdict else example
                keep_example(strategy, stays, into)
        pool = kept
    return pool


def _kept(
    strategy: Filter,
    reading: Reading,
    example: Example,
    verdict: Kept,
    context: FilterContext,
    rows: Rows,
    aside: set[bytes],
) -> Example:
    """What stays of a row that a filter has changed or flagged; it is counted and listed."""
    changed = verdict.example
    if changed is not None:
        content = content_hash(example)
        if context.measured(example) and content not in aside:
            return example
        aside.update([content_hash(changed)] if content in aside else ())
    stays = changed or example
    flagged = Flagged.of(reading.table.dataset, stays, verdict.reason, strategy.id())
    rows.noticed.append(replace(flagged, changed=changed is not None))
    (rows.flagged if changed is None else rows.changed)[flagged.reason] += 1
    return stays


def content_hash(example: Example) -> bytes:
    """Of all that is learned from a row; two rows of the same content are one."""
    content = [example.messages, example.prompt, example.completion, *filter(None, [example.second])]
    text = json.dumps(content, sort_keys=True, default=dict, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).digest()


def set_aside(examples: Iterable[Example], share: float) -> set[bytes]:
    """The contents of about `share` of the rows, always the same ones; of one at least where there are two and a share.

    A row is chosen by the hash of its content, so it never changes sides.
    """
    chosen, least, most = set[bytes](), b"", b""
    for content in map(content_hash, examples) if share > 0 else ():
        least, most = min(least or content, content), max(most, content)
        if int.from_bytes(content[:8], "big") < share * 2**64:
            chosen.add(content)
    return chosen or ({least} if least != most else set())
