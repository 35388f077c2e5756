"""The proof of a run: what it takes to be so of its model, as the recipe's strategies and the rows have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fttool.contracts.batches import Batches
from fttool.contracts.sharding import Numerics
from fttool.contracts.task import TaskParts
from fttool.rows.tokens import JoinedRows
from fttool.world import World

if TYPE_CHECKING:
    import torch

    from fttool.proof.assumptions import Shape
    from fttool.proof.properties import Learn
    from fttool.rows.loader import Planned
    from fttool.training.job import Job
    from fttool.training.proof import Comparisons, Proven
    from fttool.training.trainer import Loop


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
        from fttool.proof.properties import IN_PARTS
        from fttool.training.proof import prove
        from fttool.training.shards import reshard

        loop = trainer()
        model: Any = loop.model
        tried = _tried(loop, parts, batches, shape(planned()), rows, positions, numerics)
        with loop.accelerator.autocast():  # what a run prepares does this by itself, and a dry run prepares nothing
            proven = prove(model, loop.args.device, tried, World.here())
        reshard(model)
        if any(finding.name == IN_PARTS and not finding.holds for finding in proven.findings):
            loop.job.learn = loop.job.score
        return proven

    return prove_now


def _tried(
    loop: Loop,
    parts: TaskParts,
    batches: Batches,
    shape: Shape,
    rows: JoinedRows,
    positions: int | None,
    numerics: Numerics,
) -> list[Comparisons]:
    """The comparisons on the loop's model, in their order."""
    from fttool.proof.assumptions import Assumed, comparisons
    from fttool.proof.probe import Probe
    from fttool.proof.properties import Properties
    from fttool.training.rounding import rounding

    model: Any = loop.model
    level, formats = ("token" if parts.targets is None else "row"), formats_of(model, numerics)
    probe = Probe(
        model=model,
        score=loop.job.score,
        collate=batches.collate,
        rows=rows,
        lengths=rows.lengths,
        positions=positions,
        device=loop.args.device,
    )
    properties = Properties(
        probe=probe,
        level=level,
        allowed=rounding(formats),
        reference=parts.reference,
        without_shortcut=parts.without_shortcut,
        recomputes=loop.job.recipe.model.gradient_checkpointing,
        in_parts=_few_at_once(loop.job, parts),
    )
    assumed = Assumed(level=level, causal=parts.causal, shape=shape, formats=formats)
    return [partial(comparisons, probe, assumed), properties.comparisons]


def _few_at_once(job: Job, parts: TaskParts) -> Learn | None:
    """What the run learns by where that is not its score, with so few places in each part that a probe has several."""
    if parts.in_parts is None or job.learn is job.score:
        return None
    learn = parts.in_parts.learn
    return lambda model, batch: learn(model, batch, 2)


def formats_of(model: Any, numerics: Numerics) -> frozenset[torch.dtype]:
    """The number formats that the model computes in: those of its weights, and the one of autocast."""
    import torch

    formats = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if numerics.autocast != "no":
        formats.add({"bf16": torch.bfloat16, "fp16": torch.float16}[numerics.autocast])
    return frozenset(formats)


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
