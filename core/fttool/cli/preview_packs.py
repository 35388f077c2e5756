"""The sequences of several rows that batching makes, for `fttool preview`: which rows, and at which positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool.contracts.batches import BatchingContext, RowGroup
from fttool.errors import counted

if TYPE_CHECKING:
    from fttool.contracts.rows import Encoded
    from fttool.recipe.loaded import Loaded
    from fttool.rows.rows import Rows
    from fttool.rows.tokens import JoinedRows, TokenRows


@dataclass(frozen=True, slots=True)
class Pack:
    """One sequence, as a micro-batch of it alone has it."""

    rows: RowGroup
    """Indices of its rows, in the order in which they stand in it."""
    positions: Sequence[Sequence[int]]
    """The position ids of each row's tokens; empty where the batching gives none, or arranges rows otherwise."""


def packs_among(loaded: Loaded, rows: TokenRows) -> list[Pack]:
    """All of these rows in sequences, as if there were no others; empty where each row has a sequence of its own."""
    found = _packs(loaded, rows, range(len(rows)), len(rows))
    return found if any(len(pack.rows) > 1 for pack in found) else []


def first_sequences(loaded: Loaded, rows: Rows, most: int) -> list[Pack]:
    """The first `most` sequences of a run's first epoch, of all rows that are learned."""
    from fttool.runs.stages.batches import mixing_context
    from fttool.yielded import built, checked_order

    order = built(loaded.recipe.mixing, mixing_context(loaded, rows))
    first_epoch = checked_order(loaded.recipe.mixing, order, len(rows.learned))(0)
    return _packs(loaded, rows.learned, first_epoch, most)


def _packs(loaded: Loaded, rows: TokenRows | JoinedRows, order: Sequence[int], most: int) -> list[Pack]:
    from fttool.yielded import CheckedBatches, built

    recipe = loaded.recipe
    context = BatchingContext(
        lengths=rows.lengths,
        micro_batch=recipe.micro_batch,
        global_batch=max(recipe.micro_batch, recipe.global_batch),
        pad_id=0,
        attention=recipe.model.attention or "eager",
        **loaded.common,
    )
    batches = CheckedBatches(recipe.batching, built(recipe.batching, context), recipe.micro_batch)
    groups = [group for micro_batch in batches.plan(order, 0) for group in micro_batch][:most]
    return [Pack(group, _positions(batches.collate([[rows[row] for row in group]]), rows, group)) for group in groups]


def _positions(batch: dict[str, Any], rows: Sequence[Encoded], group: RowGroup) -> list[list[int]]:
    """The position ids of each row in a batch of one sequence; none where its rows do not follow each other."""
    if "position_ids" not in batch:
        return []
    ids: list[int] = batch["input_ids"][0].tolist()
    positions: list[int] = batch["position_ids"][0].tolist()
    found: list[list[int]] = []
    begin = 0
    for row in (rows[index] for index in group):
        end = begin + len(row.input_ids)
        if ids[begin:end] != row.input_ids:
            return []
        found.append(positions[begin:end])
        begin = end
    return found


def described(pack: Pack, number: int, length: int, max_length: int) -> str:
    """What is said above a sequence: `sequence 1: 3 rows, 96 of 1,024 tokens`."""
    return f"sequence {number}: {counted(len(pack.rows), 'row')}, {length:,} of {max_length:,} tokens"


def borders(pack: Pack) -> Iterator[str]:
    """What is said of each row's place: its positions, and whether they start again."""
    for index, _ in enumerate(pack.rows):
        if not pack.positions:
            yield "without position ids" if len(pack.rows) > 1 else ""
            continue
        own = pack.positions[index]
        before = pack.positions[index - 1][-1] if index else None
        goes_on = before is not None and own[0] == before + 1
        yield f"positions {own[0]:,} to {own[-1]:,}" + (", which go on from the row before" if goes_on else "")
