"""The proof of a run: what it takes to be so of its model, as the recipe's strategies and the rows have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fttool.contracts.batches import Batches, RowGroup
from fttool.contracts.sharding import Numerics
from fttool.contracts.task import TaskParts
from fttool.rows.data import JoinedRows, TokenRows
from fttool.world import World

if TYPE_CHECKING:
    from fttool.proof.assumptions import Shape
    from fttool.training.proof import Proven
    from fttool.training.trainer import Loop

Planned = tuple[TokenRows | JoinedRows, Sequence[Sequence[RowGroup]]]
"""Rows, and their micro-batches."""


def batch_proof(
    trainer: Callable[[], Loop],
    *,
    parts: TaskParts,
    batches: Batches,
    planned: Callable[[], Iterable[Planned]],
    rows: JoinedRows,
    positions: int | None,
    numerics: Numerics,
) -> Callable[[], Proven]:
    """What proves on the model of `trainer`, as it is when it is asked, that its batches may be as they are `planned`.

    It is tried on some of the `rows` that are learned from. `positions`: how many the model has, where that is known.
    """

    def prove_now() -> Proven:
        import torch

        from fttool.proof.assumptions import Assumed, comparisons
        from fttool.proof.probe import Probe
        from fttool.proof.properties import Properties
        from fttool.training.proof import prove
        from fttool.training.rounding import rounding
        from fttool.training.shards import close

        loop = trainer()
        model: Any = loop.model
        formats = {p.dtype for p in model.parameters() if p.is_floating_point()}
        if numerics.autocast != "no":
            formats.add({"bf16": torch.bfloat16, "fp16": torch.float16}[numerics.autocast])
        probe = Probe(
            model=model,
            score=loop.job.score,
            collate=batches.collate,
            rows=rows,
            lengths=rows.lengths,
            positions=positions,
            device=loop.args.device,
        )
        assumed = Assumed(
            level="token" if parts.targets is None else "row",
            causal=parts.causal,
            shape=shape(planned()),
            formats=frozenset(formats),
        )
        properties = Properties(
            probe=probe,
            level=assumed.level,
            allowed=rounding(formats),
            reference=parts.reference,
            recomputes=loop.job.recipe.model.gradient_checkpointing,
        )
        tried = [partial(comparisons, probe, assumed), properties.comparisons]
        with loop.accelerator.autocast():  # what a run prepares does this by itself, and a dry run prepares nothing
            proven = prove(model, loop.args.device, tried, World.here())
        close(model)
        return proven

    return prove_now


def shape(planned: Iterable[Planned]) -> Shape:
    """What all of these micro-batches are made of."""
    from fttool.proof.assumptions import Shape

    sequences = rows_in_one = longest = 0
    rows_of_longest: Sequence[Any] = ()
    for rows, plan in planned:
        lengths = rows.lengths
        for micro_batch in plan:
            sequences = max(sequences, len(micro_batch))
            for group in micro_batch:
                rows_in_one, length = max(rows_in_one, len(group)), sum(lengths[row] for row in group)
                if length > longest:
                    longest, rows_of_longest = length, [rows[row] for row in group]
    return Shape(sequences=sequences, rows=rows_in_one, longest=rows_of_longest)
