"""Cut an epoch's sequences into updates and micro-batches, the same way for every batching strategy."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive pieces of `size` items; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def like_lengths(
    sequences: Sequence[T], length: Callable[[T], int], size: int, pool: int, chance: random.Random
) -> list[Sequence[T]]:
    """Updates of `size` sequences of like length, so that little is padding; the longest of an update come first.

    The sequences are cut into pools of `pool` updates in the order given; each pool is sorted by length and cut into
    updates, and the updates of a pool are shuffled. Those that do not fill an update come last.
    """
    full = len(sequences) - len(sequences) % size
    updates: list[Sequence[T]] = []
    for of_pool in chunks(sequences[:full], size * pool):
        by_length = chunks(sorted(of_pool, key=lambda sequence: -length(sequence)), size)
        chance.shuffle(by_length)
        updates += by_length
    rest = sorted(sequences[full:], key=lambda sequence: -length(sequence))
    return [*updates, rest]


def micro_batches(updates: Sequence[Sequence[Sequence[int]]], micro_batch: int) -> list[list[Sequence[int]]]:
    """Updates of at most `global_batch` sequences → micro-batches of at most `micro_batch`, in order."""
    return [list(micro) for update in updates for micro in chunks(update, micro_batch)]
