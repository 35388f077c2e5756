"""One run, from a valid recipe to the run directory; read it top to bottom.

rows → model → what trains, and how → the loop → the final model and the summary.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fttool.errors import DivergedError, ExitCode, ModelError, Problem, RecipeError, StoppedError, UsageError
from fttool.faults import explained
from fttool.observers import Observers
from fttool.recipe.reading import Loaded
from fttool.rows.agreement import refuse_saved_difference
from fttool.runs import closing
from fttool.runs.preparing import prepare_run
from fttool.runs.record import Record, Unwritten, lock
from fttool.runs.resume import refuse_another_recipe, refuse_another_start, refuse_differences, software_changes
from fttool.runs.screen import Screen
from fttool.runs.stages.loop import Prepared
from fttool.runs.stopping import stopping, undisturbed
from fttool.training import checkpoints
from fttool.training.checkpoints import Checkpoint, processes
from fttool.training.configs import WHILE_TRAINING
from fttool.training.formats import rounded
from fttool.training.rates import shared_updates
from fttool.training.world import World

if TYPE_CHECKING:
    from fttool.runs.branching import Start
    from fttool.training.guard import Moment


def run(
    loaded: Loaded,
    screen: Screen,
    *,
    resume: bool = False,
    saves: bool = True,
    trusts: bool = False,
    start: Start | None = None,
) -> ExitCode:
    """Fine-tune as the recipe says; returns the exit code of a run that ended by itself or by a signal.

    With `start` the run begins where another one was. Without `saves` it leaves neither checkpoints nor a model. With
    `trusts` a checkpoint is read whoever wrote it, even where that runs code in it.
    """
    world = World.here()
    wanted = loaded.recipe.sharding.world_size
    if world.size != wanted:  # an update would hold another number of rows
        message = f"sharding '{loaded.recipe.sharding.id()}' is for {wanted} processes, and here is one of {world.size}"
        hint = "`fttool run` starts them, or torchrun and its like; no other verb does"
        raise UsageError(Problem(message, where=loaded.where(("sharding",)), hint=hint))
    screen = screen if world.first else Screen()
    with explained(loaded), opened(loaded, screen, world, resume=resume) as record:

        def note_fault(event: str, **fault: Any) -> None:
            screen.note(f"plugin '{fault['plugin']}' is switched off: {fault['hook']} raised {fault['error']}")
            record.event(event, **fault)

        observers = Observers(loaded, note_fault, on=world.first)
        observers.call("fttool_recipe_loaded", recipe=loaded.recipe)
        prepared = prepare_run(loaded, screen, record, observers, world)
        prepared.trainer.job.saves, prepared.trainer.job.trusts = saves, trusts
        if world.size > 1:
            refuse_several_plans(world.gather(dict(prepared.plan.arguments)), loaded)
        with summed_up(prepared, record):
            checkpoint = open_record(prepared, record, screen, resume, start) if world.first else None
            step = world.gather(checkpoint.step if checkpoint else None)[0]
            if step is not None and not world.first:
                checkpoint = same_checkpoint(prepared, record, step)
        prepared.trainer.args.output_dir = str(record.path)
        return train(prepared, record, observers, screen, checkpoint)


@contextmanager
def summed_up(prepared: Prepared, record: Record) -> Generator[None]:
    """Around what makes the run directory: stopped between that and the loop, a new run has a summary too."""
    new = not record.path.exists()
    try:
        yield
    except KeyboardInterrupt:
        if new and record.path.exists():
            with undisturbed():
                record.summary(closing.summarize(prepared, "interrupted"))
                record.event("ended", status="interrupted", step=0)
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


# -- the record and the loop ---------------------------------------------------------------------------------------


def open_record(
    prepared: Prepared, record: Record, screen: Screen, resume: bool, start: Start | None
) -> Checkpoint | None:
    """Make the run directory, or find the checkpoint to resume from; nothing was written before this."""
    locked = lock(prepared.loaded, [*prepared.rows.sources, *prepared.update.files()], prepared.source.origin)
    if resume:
        checkpoint = resumed_checkpoint(prepared, record, screen, locked)
    elif start:
        checkpoint = branched_checkpoint(prepared, record, screen, locked, start)
    else:
        record.create(prepared.loaded, locked)
        record.event("started", total_steps=prepared.length.total_steps)
        checkpoint = None
    for note in prepared.notes:
        record.event("note", what=note)
    if prepared.undone:
        by = prepared.parts.trainer_class.__name__
        record.event("config_set_back", by=by, changes=list(map(str, prepared.undone)))
    if remarks := prepared.rows.learned.remarks:
        record.event("row_remarks", rows=remarks)
    if prepared.agreement.last or prepared.agreement.earlier or prepared.agreement.dated:
        record.event("template_difference", **prepared.agreement.described())
    for notice in prepared.rows.notices:
        record.event("rows", what=notice)
    if prepared.rows.bad:
        record.bad_rows(prepared.rows.bad)
    return checkpoint


def resumed_checkpoint(
    prepared: Prepared, record: Record, screen: Screen, locked: Mapping[str, Any]
) -> Checkpoint | None:
    """The newest checkpoint that is whole, its state restored; None where the run stopped before the first.

    A run that is made longer goes on from the newest one up to which its rates are what they were; what it wrote after
    that is set aside.
    """
    longer = refuse_differences(record, prepared.loaded, locked, prepared.length.steps_per_epoch)
    among = range(longer.shared + 1) if longer else None
    found, rejected = checkpoints.newest(record.checkpoints, among)
    checkpoint = counted(found, record, prepared) if found else None
    refuse_complete(record, checkpoint, prepared)
    said = [
        *(("lines_damaged", sentence) for sentence in record.mend()),
        *(("checkpoint_rejected", sentence) for sentence in rejected),
        *software_changes(record.lock(), locked),
        *(("stops_later", sentence) for sentence in stops_later(found, checkpoint, prepared)),
    ]
    for event, sentence in said:
        screen.note(sentence)
        record.event(event, what=sentence)
    step, total = checkpoint.step if checkpoint else 0, prepared.length.total_steps
    if longer and rejected and checkpoint is None:
        message = f"no checkpoint of the first {longer.shared} updates, whose rates stay what they were, is whole"
        raise UsageError(message, hint="a run is made longer from there; leave its length as it was to resume it")
    if checkpoint is not None:
        from fttool.training.saving import restore

        restore(prepared.trainer.job, checkpoint)
    if longer and record.went_beyond(longer.shared):
        aside = record.set_aside(step, longer.was)
        screen.note(f"what came after step {step} in the run of {longer.was} updates is kept in {aside}")
        record.event("set_aside", step=step, folder=aside.name)
    record.extend(prepared.loaded)
    record.rewind(step if checkpoint else -1)
    record.event("resumed", step=step, total_steps=total)
    note_start(prepared, record, screen, checkpoint)
    return checkpoint


def note_start(prepared: Prepared, record: Record, screen: Screen, checkpoint: Checkpoint | None) -> None:
    """Say where a resumed run goes on, and with what that differs from the run so far."""
    if checkpoint is not None and at_the_end(checkpoint, prepared):
        lost = record.lost_files()
        why = f"missing or damaged: {', '.join(lost)}" if lost else "the run was stopped before its model was saved"
        screen.note(f"{why}; it is made from the checkpoint of step {checkpoint.step}, without an update")
        record.event("model_remade", step=checkpoint.step, lost=lost)
    else:
        screen.note(f"resuming from step {checkpoint.step if checkpoint else 0}")
    if checkpoint is not None and processes(checkpoint) != prepared.trainer.job.world.size:
        sentence = (
            f"{processes(checkpoint)} processes saved this checkpoint and {prepared.trainer.job.world.size} go on: "
            "rows and rates stay as they were, but what is drawn at random (dropout, masks) is drawn anew"
        )
        screen.note(sentence)
        record.event("processes_changed", what=sentence)


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


def branched_checkpoint(
    prepared: Prepared, record: Record, screen: Screen, locked: Mapping[str, Any], start: Start
) -> Checkpoint:
    """Another run's checkpoint in a new run directory, its state restored."""
    step, where = start.checkpoint.step, start.record.path
    refuse_another_start(start.record, prepared.loaded, locked, step)
    shared = shared_updates(start.factor, prepared.update.factor, step)
    if shared < step:
        message = f"update {shared + 1} of '{where}' had another rate than the new run's schedule gives it"
        raise UsageError(message, hint=f"a run can branch off only after updates that both have: here {shared}")
    changes = software_changes(start.record.lock(), locked)
    for _, sentence in changes:
        screen.note(sentence)
    needed = start.needed(prepared.loaded)
    checkpoint = counting_anew(start.checkpoint)

    from fttool.training.saving import restore

    restore(prepared.trainer.job, checkpoint)

    def fill(new: Record) -> None:
        new.begin_like(start.record, step)
        for one in needed:
            checkpoints.link(one, new.checkpoints)

    record.create(prepared.loaded, {**locked, "origin": start.described()}, fill)
    record.event("branched", run=str(where), step=step, total_steps=prepared.length.total_steps)
    for event, sentence in changes:
        record.event(event, what=sentence)
    screen.note(f"going on from step {step} of {where}, in {record.path}")
    return replace(checkpoint, path=record.checkpoints / checkpoint.path.name)


def counting_anew(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint that a run branches off with: what the other run did not improve stops this one no sooner."""
    return replace(checkpoint, progress={**checkpoint.progress, "worse_in_a_row": 0, "stopped_early": False})


def counted(checkpoint: Checkpoint, record: Record, prepared: Prepared) -> Checkpoint:
    """A checkpoint as the run that resumes it counts: one that has stopped early goes on where it may stop later."""
    if locked_origin(record) == checkpoint.path.name:
        return counting_anew(checkpoint)
    patience, progress = prepared.loaded.recipe.evaluation.early_stopping, checkpoint.progress
    stops = progress["stopped_early"] and patience is not None and progress["worse_in_a_row"] >= patience
    return replace(checkpoint, progress={**progress, "stopped_early": stops})


def stops_later(found: Checkpoint | None, checkpoint: Checkpoint | None, prepared: Prepared) -> list[str]:
    """A sentence where the run had stopped early at the checkpoint that was `found`, and does not any more."""
    if found is None or checkpoint is None or found.progress["stopped_early"] == checkpoint.progress["stopped_early"]:
        return []
    patience = prepared.loaded.recipe.evaluation.early_stopping
    now = "without evaluation.early_stopping" if patience is None else f"with evaluation.early_stopping = {patience}"
    return [f"the run had stopped early, after step {found.step}; it goes on {now}"]


def locked_origin(record: Record) -> str | None:
    """Name of the checkpoint that the run has branched off with; None for one that began with its first update."""
    return record.lock().get("origin", {}).get("checkpoint")


def same_checkpoint(prepared: Prepared, record: Record, step: int) -> Checkpoint:
    """The checkpoint that the first process has found, restored in another one."""
    from fttool.training.saving import restore

    checkpoint = checkpoints.whole(record.checkpoints, step)
    if isinstance(checkpoint, str):
        raise UsageError(checkpoint, hint="every process must see the run directory: is it on a shared disk?")
    checkpoint = counted(checkpoint, record, prepared)
    restore(prepared.trainer.job, checkpoint)
    return checkpoint


def train(
    prepared: Prepared, record: Record, observers: Observers, screen: Screen, checkpoint: Checkpoint | None
) -> ExitCode:
    """The loop, then the final model; whatever happens, `summary.json` says how it ended."""
    trainer, job = prepared.trainer, prepared.trainer.job
    status, code = "failed", ExitCode.FAILURE
    together, unrecorded = True, None
    try:
        observers.call(
            "fttool_run_started",
            recipe=prepared.loaded.recipe,
            run_dir=record.path,
            total_steps=prepared.length.total_steps,
        )
        job.trackers.begin(checkpoint.step if checkpoint else 0)
        with stopping(job):
            screen.started(prepared.length.total_steps, checkpoint.step if checkpoint else 0)
            trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        refuse_uncalled(prepared, since=checkpoint.step if checkpoint else 0)
        if job.signal is not None:
            status = "interrupted"
            code = ExitCode.of_signal(job.signal)
        else:
            screen.stopped()
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
        screen.stopped()
        with undisturbed():
            summary = closing.summarize(prepared, status)
            unrecorded = closing.record_end(record, summary, screen)
        observers.call("fttool_run_finished", status=status, summary=summary)
        job.trackers.end(status)
        if together and status != "failed":
            job.world.leave()  # a launcher ends the others as soon as one has left with an error
    if unrecorded is not None:
        raise unrecorded
    screen.finished(summary, closing.text(prepared, record, summary))
    return code


def refuse_uncalled(prepared: Prepared, since: int) -> None:
    """Raise `LibraryError` where the loop, after step `since`, has left something out that a run to its end has."""
    trainer, job = prepared.trainer, prepared.trainer.job
    if trainer.state.global_step == since:  # there was no update to make, only the model
        return
    moments: list[Moment] = ["start", "update", "log"]
    if job.saves:
        moments.append("checkpoint")
    if job.signal is None and prepared.rows.measurable:
        moments.append("evaluation")
    trainer.refuse_uncalled(*moments)


def finish(prepared: Prepared, record: Record) -> None:
    """The final weights: the best ones where the recipe asks for them, those before the first update among them; then
    save them, if at all.
    """
    trainer, job = prepared.trainer, prepared.trainer.job
    settings, progress = prepared.loaded.recipe.evaluation, job.progress
    trainer.refuse_skipped_alone()
    why: list[str] = []
    mixed = False
    if job.saves and settings.best and progress.best_step not in (None, trainer.state.global_step):
        why.append(f"the best weights, those of step {progress.best_step}")
        if progress.best_step == 0 and prepared.update.beginning is not None:
            prepared.update.beginning.put(prepared.plan.weights(prepared.model))
            mixed = True
        else:
            refuse_damaged_best(record, progress.best_step)
            trainer._load_from_checkpoint(str(record.checkpoints / f"checkpoint-{progress.best_step}"))  # pyright: ignore[reportPrivateUsage]
    for strategy, one in zip(prepared.loaded.recipe.regularizers, job.regularizations, strict=True):
        if one.final_weights is not None:
            one.final_weights(prepared.plan.weights(prepared.model))
            why.append(f"changed by {strategy.id()}")
            mixed = True
    whole = job.saves and prepared.update.export is None  # adapters are added first, and rounded when they are saved
    if whole and rounded(prepared.plan.weights(prepared.model), job.formats):
        why.append("rounded to the format that is saved")
    if why and prepared.rows.measurable:
        job.screen.stage(f"evaluating the final model: {', '.join(why)}")
        trainer.evaluate()
    if progress.answers_before:
        job.screen.stage("asking the sampled questions again")
        progress.answers_after = job.answers()
    if not job.saves:
        return
    job.screen.stage("saving the model")
    trainer.make_whole(changed=mixed)
    trainer.refuse_non_finite_weights(whole=True)
    undone = [one for one in prepared.configs.undo() if one.name.rpartition(".")[2] not in WHILE_TRAINING]
    if undone:
        record.event("config_set_back", by="training", changes=list(map(str, undone)))
    trainer.save_final(record.model, prepared.update.export)
    record.card(closing.card(prepared))
    if job.world.first:
        compare_saved(prepared, record)


def refuse_damaged_best(record: Record, step: int) -> None:
    """Raise `UsageError` where the checkpoint of which the final model is to be made is not as it was written."""
    found = checkpoints.whole(record.checkpoints, step)
    if isinstance(found, str):
        hint = f"delete the checkpoints from step {step} on: --resume then makes those updates again"
        raise UsageError(f"the final model is to be that of the best evaluation, and {found}", hint=hint)


def compare_saved(prepared: Prepared, record: Record) -> None:
    """Load the saved tokenizer and template again: what they make of the sampled rows is what training saw."""
    try:
        refuse_saved_difference(
            prepared.tokenizer,
            record.model,
            prepared.rows.sampled,
            trust_remote_code=prepared.loaded.recipe.model.trust_remote_code,
        )
    except ModelError as wrong:
        record.event("saved_difference", what=str(wrong))
        raise
