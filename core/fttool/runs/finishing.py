"""How a run ends well: the final weights, the last measurements, and the model as it is saved and loaded again."""

from __future__ import annotations

from fttool.errors import ModelError, UsageError
from fttool.events import ConfigSetBack, SavedDifference
from fttool.rows.checks.agreement import refuse_saved_difference
from fttool.rundir import checkpoints
from fttool.rundir.record import Record
from fttool.runs.card import card
from fttool.runs.stages.loop import Prepared
from fttool.training.configs import WHILE_TRAINING
from fttool.training.formats import rounded


def finish(prepared: Prepared, record: Record) -> None:
    """The final weights: the best ones where the recipe asks for them, those before the first update among them; then
    save them, if at all.
    """
    trainer, job = prepared.trainer, prepared.trainer.job
    settings, progress = prepared.loaded.recipe.evaluation, job.progress
    trainer.refuse_skipped_alone()
    why: list[str] = []
    mixed = False
    if job.output.saves and settings.best and progress.best_step not in (None, trainer.state.global_step):
        why.append(f"the best weights, those of step {progress.best_step}")
        if progress.best_step == 0 and prepared.update.initial_weights is not None:
            prepared.update.initial_weights.put(prepared.plan.weights(prepared.model))
            mixed = True
        else:
            refuse_damaged_best(record, progress.best_step)
            trainer._load_from_checkpoint(str(record.checkpoints / f"checkpoint-{progress.best_step}"))  # pyright: ignore[reportPrivateUsage]
    for strategy, regularization in zip(prepared.loaded.recipe.regularizers, job.update.regularizations, strict=True):
        if regularization.final_weights is not None:
            regularization.final_weights(prepared.plan.weights(prepared.model))
            why.append(f"changed by {strategy.id()}")
            mixed = True
    may_round = job.output.saves and prepared.update.export is None  # adapters are merged first, and rounded when saved
    if may_round and rounded(prepared.plan.weights(prepared.model), job.output.formats):
        why.append("rounded to the format that is saved")
    if why and prepared.rows.measurable:
        job.watch.stage(f"evaluating the final model: {', '.join(why)}")
        trainer.evaluate()
    if progress.answers_before:
        job.watch.stage("answering the sample prompts again")
        progress.answers_after = job.measuring.answers()
    if not job.output.saves:
        return
    job.watch.stage("saving the model")
    trainer.gather_weights(changed=mixed)
    trainer.refuse_non_finite_weights(gathered=True)
    undone = [change for change in prepared.configs.undo() if change.name.rpartition(".")[2] not in WHILE_TRAINING]
    if undone:
        job.watch.event(ConfigSetBack(by="training", changes=list(map(str, undone))))
    trainer.save_final(record.model, card(prepared), prepared.update.export)
    if job.world.first:
        compare_saved(prepared, record)


def refuse_damaged_best(record: Record, step: int) -> None:
    """Raise `UsageError` where the checkpoint of which the final model is to be made is not as it was written."""
    checkpoint = checkpoints.intact(record.checkpoints, step)
    if isinstance(checkpoint, str):
        hint = f"delete the checkpoints from step {step} on: --resume then makes those updates again"
        raise UsageError(f"the final model is to be that of the best evaluation, and {checkpoint}", hint=hint)


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
        prepared.watch.event(SavedDifference(text=str(wrong)), known=True)
        raise
