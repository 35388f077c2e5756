"""`run.micro_batch = "auto"`: a micro-batch goes through the model in as many passes as memory asks for.

The loss of an update is over all of its labels, so gradients add up to the same whatever the number of passes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from fttool.machine import ran_out_of_memory

Batch = Mapping[str, Any]
T = TypeVar("T")
ENDS = "cu_seq_lens_q"
"""Where the rows of a micro-batch end that is one sequence of all of them; see `Batches.collate`."""
InPasses = Callable[[Batch, Callable[[Batch], Any]], list[Any]]
"""Micro-batch, and what is to be made of each pass → what was made of it, pass by pass."""


def in_one(batch: Batch, work: Callable[[Batch], T]) -> list[T]:
    """What `work` makes of a micro-batch in one pass."""
    return [work(batch)]


def pieces(batch: Batch, rows: int) -> Iterator[Batch]:
    """A micro-batch of B sequences in pieces of at most `rows`, without the slots after its longest sequence."""
    total, width = len(batch["rows"]), batch["input_ids"].shape[1]
    if total <= rows:
        yield batch
        return
    if ENDS in batch:
        yield from _flat_pieces(batch, rows)
        return
    for start in range(0, total, rows):
        piece = {key: value[start : start + rows] if _per_row(value) else value for key, value in batch.items()}
        mask = piece.get("attention_mask")
        filled = width if mask is None or mask.ndim != 2 else int(mask.any(0).nonzero().max()) + 1
        yield {key: value[:, :filled] if _per_slot(key, value, width) else value for key, value in piece.items()}


def _flat_pieces(batch: Batch, sequences: int) -> Iterator[Batch]:
    """The same of a micro-batch that is one sequence of all rows, (1, N): its pieces are cut where rows end."""
    ends_R, width, first = batch[ENDS], batch["input_ids"].shape[1], 0
    for start in range(0, len(batch["rows"]), sequences):
        rows = batch["rows"][start : start + sequences]
        last = first + sum(map(len, rows))
        begin, end = int(ends_R[first]), int(ends_R[last])
        ends, longest = ends_R[first : last + 1] - begin, int(ends_R[first : last + 1].diff().max())
        piece = {key: value[:, begin:end] if _per_slot(key, value, width) else value for key, value in batch.items()}
        bounds = {ENDS: ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
        yield {**piece, **bounds, "rows": rows}
        first = last


def attempted(work: Callable[[Batch], T], batches: Iterable[Batch]) -> list[T] | None:
    """What `work` makes of each of `batches`; None where memory has run out, and as much as can be is free again."""
    try:
        return [work(piece) for piece in batches]
    except (MemoryError, RuntimeError) as fault:  # let go of here, for its frames hold the tensors
        if not ran_out_of_memory(fault):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _per_row(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray | list)


def _per_slot(key: str, value: Any, width: int) -> bool:
    if key == "targets":  # of several classes they are as wide as there are classes
        return False
    return isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 2 and value.shape[1] == width
