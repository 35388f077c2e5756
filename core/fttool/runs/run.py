"""One run, from a valid recipe to the run directory; read it top to bottom.

rows → model → what trains, and how → the loop → the final model and the summary.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool import events
from fttool.errors import DivergedError, ExitCode, Problem, RecipeError, StoppedError, UsageError
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.rows.format_detection import settled
from fttool.rundir.checkpoints import Checkpoint
from fttool.rundir.record import Record, Unwritten
from fttool.runs.finishing import finish
from fttool.runs.forecasting import forecast
from fttool.runs.opening import open_record
from fttool.runs.preparing import prepare_run
from fttool.runs.resume import refuse_another_recipe
from fttool.runs.resuming import same_checkpoint
from fttool.runs.stages.loop import Prepared
from fttool.runs.start import Start
from fttool.runs.stopping import stopping, undisturbed
from fttool.runs.summary import record_end, summarize
from fttool.watch.screen import Screen
from fttool.watch.watch import Watch
from fttool.world import World

if TYPE_CHECKING:
    from fttool.training.guard import Moment


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended by itself or by a signal."""

    code: ExitCode
    prepared: Prepared
    record: Record
    summary: Mapping[str, Any]
    """As `summary.json` has it."""

    @property
    def shown(self) -> bool:
        """True in the process that shows the run."""
        return self.prepared.world.first


def run(
    loaded: Loaded,
    screen: Screen,
    *,
    resume: bool = False,
    saves: bool = True,
    trusts: bool = False,
    start: Start | None = None,
) -> Ended:
    """Fine-tune as the recipe says.

    With `start` the run begins where another one was. Without `saves` it leaves neither checkpoints nor a model. With
    `trusts` a checkpoint is read whoever wrote it, even where that runs code in it.
    """
    world = World.here()
    refuse_other_size(loaded, world)
    screen = screen if world.first else Screen()
    with explained(loaded):
        loaded = settled(loaded)
    with explained(loaded), opened(loaded, screen, world, resume=resume) as record:
        watch = Watch(loaded, record, screen, on=world.first)
        watch.recipe_loaded()
        prepared = prepare_run(loaded, record.path, watch, world)
        prepared.trainer.job.output.saves, prepared.trainer.job.output.trusts = saves, trusts
        if world.size > 1:
            refuse_several_plans(world.all_gather(dict(prepared.plan.arguments)), loaded)
        with summed_up(prepared, record):
            checkpoint = open_record(prepared, record, resume, start) if world.first else None
            step = world.all_gather(checkpoint.step if checkpoint else None)[0]
            if step is not None and not world.first:
                checkpoint = same_checkpoint(prepared, record, step)
        prepared.trainer.args.output_dir = str(record.path)
        return train(prepared, record, checkpoint)


def refuse_other_size(loaded: Loaded, world: World) -> None:
    """Raise `UsageError` where there are not as many processes as the recipe wants: an update would have other rows."""
    wanted = loaded.recipe.sharding.world_size
    if world.size != wanted:
        message = f"sharding '{loaded.recipe.sharding.id()}' is for {wanted} processes, and here is one of {world.size}"
        hint = "`fttool run` starts them, or torchrun and its like; no other verb does"
        raise UsageError(Problem(message, where=loaded.where(("sharding",)), hint=hint))


@contextmanager
def summed_up(prepared: Prepared, record: Record) -> Generator[None]:
    """Around what makes the run directory: stopped between that and the loop, a new run has a summary too."""
    new = not record.path.exists()
    try:
        yield
    except KeyboardInterrupt:
        if new and record.path.exists():
            with undisturbed():
                record.summary(summarize(prepared, "interrupted"))
                record.event(events.Ended(status="interrupted", step=0))
        raise


@contextmanager
def opened(loaded: Loaded, screen: Screen, world: World, *, resume: bool) -> Generator[Record]:
    """The run directory; that of a run which goes on is held, and its recipe compared, before anything is loaded."""
    if not world.first:
        yield Unwritten(Record.place(loaded))
        return
    record = Record.at(loaded, resume)
    try:
        if resume:
            record.hold(screen.note)
            refuse_another_recipe(record, loaded)
        yield record
    finally:
        record.release()


def refuse_several_plans(plans: Sequence[Mapping[str, Any]], loaded: Loaded) -> None:
    """Raise where a sharding that chooses has not come to the same choice everywhere, as devices differ."""
    if any(plan != plans[0] for plan in plans):
        message = f"the devices of the processes differ, and sharding '{loaded.recipe.sharding.id()}' with them"
        hint = "name one that fits the smallest: fttool run --dry-run there says which"
        raise RecipeError(Problem(message, hint=hint, key=("sharding",)))


def train(prepared: Prepared, record: Record, checkpoint: Checkpoint | None) -> Ended:
    """The loop, then the final model; whatever happens, `summary.json` says how it ended."""
    job, watch = prepared.trainer.job, prepared.watch
    status, code = "failed", ExitCode.FAILURE
    together, unrecorded, forecasts = True, None, forecast(prepared)
    try:
        loop(prepared, checkpoint)
        if job.signal is not None:
            status, code = "interrupted", ExitCode.of_signal(job.signal)
        else:
            watch.stopped()
            job.held = job.prove()
            finish(prepared, record)
            status, code = "finished", ExitCode.OK
    except DivergedError:
        status = "diverged"
        raise
    except KeyboardInterrupt as stopped:
        status, together = "interrupted", False
        if isinstance(stopped, StoppedError) or job.asked in (None, signal.SIGINT):
            raise
        code = ExitCode.of_signal(job.asked)
    finally:
        watch.stopped()
        with undisturbed():
            summary = forecasts.compared(summarize(prepared, status))
            unrecorded = record_end(record, summary, watch)
        watch.ended(status, summary)
        if together and status != "failed":
            job.world.leave()  # a launcher ends the others as soon as one has left with an error
    if unrecorded is not None:
        raise unrecorded
    return Ended(code=code, prepared=prepared, record=record, summary=summary)


def loop(prepared: Prepared, checkpoint: Checkpoint | None) -> None:
    """All updates that are left, or those up to a signal."""
    trainer, step = prepared.trainer, checkpoint.step if checkpoint else 0
    prepared.watch.started(prepared.length.total_steps, step)
    with stopping(trainer.job):
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    refuse_uncalled(prepared, since=step)


def refuse_uncalled(prepared: Prepared, since: int) -> None:
    """Raise `LibraryError` where the loop, after step `since`, has left something out that a run to its end has."""
    trainer, job = prepared.trainer, prepared.trainer.job
    if trainer.state.global_step == since:  # there was no update to make, only the model
        return
    moments: list[Moment] = ["start", "update", "log"]
    if job.output.saves:
        moments.append("checkpoint")
    if job.signal is None and prepared.rows.measurable:
        moments.append("evaluation")
    trainer.refuse_uncalled(*moments)
