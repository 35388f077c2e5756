"""Which of the training rows are learned from: what filters say, and the share that is measured on instead."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fttool.contracts.model import Source, SourceContext
from fttool.contracts.rows import Example, Filter, FilterContext, Kept
from fttool.contracts.strategy import Track
from fttool.disk import user_folder
from fttool.recipe.loaded import Loaded
from fttool.rows.gone import Gone
from fttool.rows.prompts import whole_length
from fttool.rows.rows import Rows
from fttool.yielded import built, check_verdicts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def filter_context(
    loaded: Loaded, tokenizer: PreTrainedTokenizerBase, measured_rows: Sequence[Example], track: Track
) -> FilterContext:
    """What filters know; `measured_rows` are measured on, whatever the share."""
    measured = set(map(content_hash, measured_rows))
    share = loaded.recipe.data.eval_share
    return FilterContext(
        tokenizer=tokenizer,
        tokens=lambda example: whole_length(example, tokenizer),
        measured_rows=measured_rows,
        measured=lambda example: _is_measured(content_hash(example), measured, share),
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
    context: FilterContext,
    filters: Iterable[Filter],
    examples: list[tuple[int, Example]],
    rows: Rows,
    names: Sequence[str],
) -> list[tuple[int, Example]]:
    """Apply the filters in the recipe's order to the rows of all training datasets, which `names` name by the
    numbers beside the examples, and count what becomes of them.

    A row that is measured on elsewhere stays as it is, so that it is still known as such, and kept from being learned.
    """
    measured: set[bytes] | None = None
    for strategy in filters:
        own = partial(cache_folder, f"filters/{strategy.id()}")
        decide = built(strategy, replace(context, cache=own))
        judged = [example for _, example in examples]
        verdicts = decide(judged)
        check_verdicts(strategy, verdicts, judged)
        kept: list[tuple[int, Example]] = []
        for (index, example), verdict in zip(examples, verdicts, strict=True):
            if isinstance(verdict, str):
                rows.drop(Gone.of(names[index], example, verdict, strategy.id()))
                continue
            if isinstance(verdict, Kept) and verdict.example is not None:
                measured = set(map(content_hash, context.measured_rows)) if measured is None else measured
                if content_hash(example) not in measured:
                    rows.changed[verdict.reason] += 1
                    example = verdict.example
            elif verdict is not None:
                rows.flagged[verdict.reason] += 1
            kept.append((index, example))
        examples = kept
    return examples


def content_hash(example: Example) -> bytes:
    """Of all that is learned from a row; two rows of the same content are one."""
    content = [example.messages, example.prompt, example.completion, *filter(None, [example.second])]
    text = json.dumps(content, sort_keys=True, default=dict, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).digest()


def _is_measured(content: bytes, measured: set[bytes], share: float) -> bool:
    """Whether a row of this content is among those that are, or its hash is in the share that is set aside."""
    return content in measured or int.from_bytes(content[:8], "big") < share * 2**64


def set_aside(hashes: Sequence[bytes], share: float) -> set[bytes]:
    """About `share` of the rows by their hashes, always the same ones; at least one where there are two and a share."""
    chosen = {content for content in hashes if _is_measured(content, set(), share)}
    return chosen or ({min(hashes)} if share > 0 and len(set(hashes)) > 1 else set())
