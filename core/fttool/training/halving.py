"""`run.micro_batch = "auto"` in a run: fewer sequences at once wherever memory has run out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from fttool.errors import OutOfMemoryError, gist
from fttool.events import OutOfMemory
from fttool.machine import ran_out_of_memory
from fttool.recipe.faults import out_of_memory_hint
from fttool.training.job import Job
from fttool.training.passes import Batch, attempted, in_one, pieces

T = TypeVar("T")
Use: TypeAlias = Literal["training", "evaluation", "features"]
"""What memory ran out in; each has a number of sequences of its own."""


def in_passes(
    job: Job, use: Use, step: int, batch: Batch, work: Callable[[Batch], T], undo: Callable[[], None]
) -> list[T]:
    """What `work` makes of a micro-batch, in as many passes as it takes where the recipe says so.

    `undo` is called where it begins again. With several processes a pass more in one of them would leave the others
    waiting: they start again together, see `launch/launching.py`.
    """
    size = len(batch["rows"])
    if job.world.size > 1:
        return _in_one_pass(job, use, batch, work)
    if job.recipe.run.micro_batch != "auto":
        return in_one(batch, work)
    while (now := min(size, job.progress.fits.get(use, size))) > 1:
        done = attempted(work, pieces(batch, now))
        if done is not None:
            return done
        undo()
        job.progress.fits[use] = now // 2
        text = f"memory ran out on {now} sequences at once: {use} goes on with {now // 2}, in more passes"
        job.watch.event(OutOfMemory(text=text, step=step, use=use, was=now, now=now // 2))
    return [work(piece) for piece in pieces(batch, 1)]


def _in_one_pass(job: Job, use: Use, batch: Batch, work: Callable[[Batch], T]) -> list[T]:
    """In one pass; where memory runs out, what is raised says whether fewer rows at once may help."""
    try:
        return in_one(batch, work)
    except (MemoryError, RuntimeError) as fault:
        if not ran_out_of_memory(fault):
            raise
        error = OutOfMemoryError(f"out of memory: {gist(fault)}", hint=out_of_memory_hint(job.recipe))
        error.with_fewer_rows = use == "training" or job.recipe.evaluation.micro_batch is None
        raise error from fault
