"""Cut an epoch's sequences into updates and micro-batches, the same way for every batching strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive pieces of `size` items; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def micro_batches(updates: Sequence[Sequence[Sequence[int]]], micro_batch: int) -> list[list[Sequence[int]]]:
    """Updates of at most `global_batch` sequences → micro-batches of at most `micro_batch`, in order."""
    return [list(micro) for update in updates for micro in chunks(update, micro_batch)]
