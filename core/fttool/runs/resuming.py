"""A run goes on: at a checkpoint of its own, or at another run's. What is refused, `resume.py` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fttool.errors import UsageError
from fttool.events import (
    Branched,
    CheckpointRejected,
    LinesDamaged,
    ModelRemade,
    ProcessesChanged,
    Resumed,
    SetAside,
    StopsLater,
)
from fttool.rundir import checkpoints
from fttool.rundir.checkpoints import Checkpoint, processes
from fttool.rundir.record import Record
from fttool.runs.resume import refuse_another_start, refuse_differences, software_changes
from fttool.runs.stages.loop import Prepared
from fttool.runs.start import Start
from fttool.training.rates import shared_updates


def resumed_checkpoint(prepared: Prepared, record: Record, locked: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint that is intact, its state restored; None where the run stopped before the first.

    A run that is made longer goes on from the newest one up to which its rates are what they were; what it wrote after
    that is set aside.
    """
    longer = refuse_differences(record, prepared.loaded, locked, prepared.length.steps_per_epoch)
    among = range(longer.shared + 1) if longer else None
    found, rejected = checkpoints.newest(record.checkpoints, among)
    checkpoint = counting_on(found, record, prepared) if found else None
    refuse_complete(record, checkpoint, prepared)
    events = [
        *(LinesDamaged(text=sentence) for sentence in record.mend()),
        *(CheckpointRejected(text=sentence) for sentence in rejected),
        *software_changes(record.lock(), locked),
        *(StopsLater(text=sentence) for sentence in stops_later(found, checkpoint, prepared)),
    ]
    for event in events:
        prepared.watch.event(event)
    step, total = checkpoint.step if checkpoint else 0, prepared.length.total_steps
    if longer and rejected and checkpoint is None:
        message = f"no checkpoint of the first {longer.shared} updates, whose rates stay the same, is intact"
        raise UsageError(message, hint="a run is lengthened from one of those; keep its length to resume it")
    if checkpoint is not None:
        from fttool.training.saving import restore

        restore(prepared.trainer.job, checkpoint)
    if longer and record.went_beyond(longer.shared):
        aside = record.set_aside(step, longer.was)
        text = f"what came after step {step} in the run of {longer.was} updates is kept in {aside}"
        prepared.watch.event(SetAside(text=text, step=step, folder=aside.name))
    record.extend(prepared.loaded)
    record.rewind(step if checkpoint else -1)
    prepared.watch.event(Resumed(step=step, total_steps=total))
    note_start(prepared, record, checkpoint)
    return checkpoint


def note_start(prepared: Prepared, record: Record, checkpoint: Checkpoint | None) -> None:
    """Say where a resumed run goes on, and with what that differs from the run so far."""
    if checkpoint is not None and at_the_end(checkpoint, prepared):
        lost = record.lost_files()
        why = f"missing or damaged: {', '.join(lost)}" if lost else "the run was stopped before its model was saved"
        text = f"{why}; it is made from the checkpoint of step {checkpoint.step}, without an update"
        prepared.watch.event(ModelRemade(text=text, step=checkpoint.step, lost=lost))
    else:
        prepared.watch.note(f"resuming from step {checkpoint.step if checkpoint else 0}")
    if checkpoint is not None and processes(checkpoint) != prepared.trainer.job.world.size:
        text = (
            f"{processes(checkpoint)} processes saved this checkpoint and {prepared.trainer.job.world.size} go on: "
            "rows and rates stay as they were, but random numbers (dropout, masks) start anew"
        )
        prepared.watch.event(ProcessesChanged(text=text))


def at_the_end(checkpoint: Checkpoint, prepared: Prepared) -> bool:
    """True where no update follows it."""
    return checkpoint.step >= prepared.length.total_steps or checkpoint.progress["stopped_early"]


def refuse_complete(record: Record, checkpoint: Checkpoint | None, prepared: Prepared) -> None:
    """Raise `UsageError` where the run has made all of its updates, and has its model as it was saved."""
    total = prepared.length.total_steps
    step = checkpoint.step if checkpoint is not None else total
    if (checkpoint is not None and not at_the_end(checkpoint, prepared)) or not record.has_model(step):
        return
    if checkpoint is not None and step < total:
        count = checkpoint.progress["worse_in_a_row"]
        message = f"the run is complete: it stopped early, after step {step} of {total}"
        hint = (
            f"evaluation.early_stopping above {count} goes on with it (--set evaluation.early_stopping={count + 1}), "
            "and so does a recipe without it"
        )
        raise UsageError(f"{message}, as {count} evaluations in a row were no better", hint=hint)
    raise UsageError(
        f"the run is complete: its model is that of step {step} of {total}",
        hint="to go on, raise run.max_steps or run.epochs under a schedule that allows it",
    )


def branched_checkpoint(prepared: Prepared, record: Record, locked: Mapping[str, Any], start: Start) -> Checkpoint:
    """Another run's checkpoint in a new run directory, its state restored."""
    step, where = start.checkpoint.step, start.record.path
    refuse_another_start(start.record, prepared.loaded, locked, step)
    shared = shared_updates(start.factor, prepared.update.factor, step)
    if shared < step:
        message = f"update {shared + 1} of '{where}' had another rate than the new run's schedule gives it"
        raise UsageError(message, hint=f"a run can branch off only after updates that both have: here {shared}")
    needed = start.needed(prepared.loaded)
    checkpoint = counting_anew(start.checkpoint)

    from fttool.training.saving import restore

    restore(prepared.trainer.job, checkpoint)

    def fill(new: Record) -> None:
        new.begin_like(start.record, step)
        for taken in needed:
            checkpoints.link(taken, new.checkpoints)

    record.create(prepared.loaded, {**locked, "origin": start.described()}, fill)
    text = f"going on from step {step} of {where}, in {record.path}"
    branched = Branched(text=text, run=str(where), step=step, total_steps=prepared.length.total_steps)
    for event in (branched, *software_changes(start.record.lock(), locked)):
        prepared.watch.event(event)
    return replace(checkpoint, path=record.checkpoints / checkpoint.path.name)


def counting_anew(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint that a run branches off with: what the other run did not improve stops this one no sooner."""
    return replace(checkpoint, progress={**checkpoint.progress, "worse_in_a_row": 0, "stopped_early": False})


def counting_on(checkpoint: Checkpoint, record: Record, prepared: Prepared) -> Checkpoint:
    """A checkpoint as the run that resumes it counts: one that has stopped early goes on where it may stop later."""
    if locked_origin(record) == checkpoint.path.name:
        return counting_anew(checkpoint)
    patience, progress = prepared.loaded.recipe.evaluation.early_stopping, checkpoint.progress
    stops = progress["stopped_early"] and patience is not None and progress["worse_in_a_row"] >= patience
    return replace(checkpoint, progress={**progress, "stopped_early": stops})


def stops_later(newest: Checkpoint | None, checkpoint: Checkpoint | None, prepared: Prepared) -> list[str]:
    """A sentence where the run had stopped early at the `newest` checkpoint, and does not any more."""
    if newest is None or checkpoint is None or newest.progress["stopped_early"] == checkpoint.progress["stopped_early"]:
        return []
    patience = prepared.loaded.recipe.evaluation.early_stopping
    now = "without evaluation.early_stopping" if patience is None else f"with evaluation.early_stopping = {patience}"
    return [f"the run had stopped early, after step {newest.step}; it goes on {now}"]


def locked_origin(record: Record) -> str | None:
    """Name of the checkpoint that the run has branched off with; None for one that began with its first update."""
    return record.lock().get("origin", {}).get("checkpoint")


def same_checkpoint(prepared: Prepared, record: Record, step: int) -> Checkpoint:
    """The checkpoint that the first process has found, restored in another one."""
    from fttool.training.saving import restore

    checkpoint = checkpoints.intact(record.checkpoints, step)
    if isinstance(checkpoint, str):
        raise UsageError(checkpoint, hint="every process must see the run directory: is it on a shared disk?")
    checkpoint = counting_on(checkpoint, record, prepared)
    restore(prepared.trainer.job, checkpoint)
    return checkpoint
