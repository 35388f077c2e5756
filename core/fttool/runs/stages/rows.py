"""Rows in tokens, and the task that learns from them; the model's weights are not needed for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fttool.contracts.model import Source
from fttool.contracts.rows import MaskingContext
from fttool.contracts.strategy import Track
from fttool.contracts.task import TaskContext, TaskParts
from fttool.recipe.loaded import Loaded
from fttool.rows import chat
from fttool.rows.checks.agreement import Agreement, compare, refuse_difference
from fttool.rows.checks.trained_classes import refuse_classes
from fttool.rows.data import prepare
from fttool.rows.encoding import untracked
from fttool.rows.filtering import build_source
from fttool.rows.rows import Rows
from fttool.runs.row_cache import cached_rows
from fttool.runs.stages.setup import Setup, extended
from fttool.yielded import built

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class WithRows(Setup):
    """A run whose rows are read."""

    source: Source
    """Loaders of tokenizer and model."""
    tokenizer: PreTrainedTokenizerBase
    """With the chat template that the recipe asks for."""
    rows: Rows
    """All of them in tokens: `train`, `eval`, `retention`, `general`."""
    agreement: Agreement
    """Of the rows with what inference asks."""
    parts: TaskParts
    """What the task yields."""


READING = "reading the tokenizer and the rows"


def with_rows(run: Setup) -> WithRows:
    """Read and check the rows; what is to be known of them is said."""
    from fttool.training.trainer import refuse_other_libraries

    run.watch.stage(READING)
    source, tokenizer, rows = load_rows(run.loaded, track=run.watch.track)
    for notice in rows.notices:
        run.watch.note(notice)
    agreement = agree(run.loaded, tokenizer, rows)
    refuse_difference(agreement, run.loaded.recipe.model.template_difference)
    for finding in agreement.findings():
        run.watch.note(finding.message, finding.hint)
    parts = task_parts(run.loaded, rows)
    refuse_other_libraries(parts.trainer_class)
    return extended(run, WithRows, source=source, tokenizer=tokenizer, rows=rows, agreement=agreement, parts=parts)


def load_rows(
    loaded: Loaded, first: int | None = None, track: Track = untracked
) -> tuple[Source, PreTrainedTokenizerBase, Rows]:
    """Tokenizer and rows, or the `first` few; the model's weights are not needed for them."""
    source = build_source(loaded)
    tokenizer = source.tokenizer()
    chat.apply_template(tokenizer, loaded.recipe.model.chat_template, loaded.folder)
    if first is not None:
        return source, tokenizer, prepare(loaded, tokenizer, first=first, track=track)
    return source, tokenizer, cached_rows(loaded, tokenizer, track)


def agree(loaded: Loaded, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> Agreement:
    """What differs between the tokens of training and those of inference, in the sampled rows."""
    masking, max_length = loaded.recipe.masking, loaded.recipe.batching.max_length
    encode = built(masking, MaskingContext(tokenizer=tokenizer, max_length=max_length, **loaded.common))
    return compare(rows.sampled, masking.split, encode, tokenizer, max_length)


def task_parts(loaded: Loaded, rows: Rows) -> TaskParts:
    """What the recipe's task yields for these rows; `DataError` for those whose classes it cannot learn."""
    counts, masking = rows.train.class_counts, loaded.recipe.masking
    parts = built(
        loaded.recipe.task, TaskContext(label_counts=counts, rows=len(rows.train), masking=masking, **loaded.common)
    )
    if parts.targets is not None:
        refuse_classes(rows, parts.targets)
    return parts
