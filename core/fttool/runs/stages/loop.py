"""The last stage before the first update: the task's Trainer with core's loop in it, and what the loop is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fttool.contracts.task import Losses, TaskParts
from fttool.proof.proving import batch_proof
from fttool.rundir.record import CHECKPOINTS, peak_memory_bytes
from fttool.runs.rehearsing import refuse_unsavable
from fttool.runs.stages.answers import answering, answers, ask
from fttool.runs.stages.model import positions_of
from fttool.runs.stages.plan import WithPlan, at_once_because, places_at_once, wanted_at_once
from fttool.runs.stages.setup import extended
from fttool.training.configs import WHILE_TRAINING, Change, Configs
from fttool.training.evaluation import Score, asked_examples, measures
from fttool.training.formats import saved_formats
from fttool.training.rates import stable_phase
from fttool.watch.watch import Watch
from fttool.world import World

if TYPE_CHECKING:
    from fttool.features.backbone import Backbone
    from fttool.training.job import Job
    from fttool.training.proof import Proven
    from fttool.training.trainer import Loop


@dataclass(frozen=True, kw_only=True)
class Prepared(WithPlan):
    """Everything that a run, its summary and `--dry-run` need."""

    trainer: Loop
    """The Trainer, ready for its first update."""
    parameters: int
    """Of the model, trained or not."""
    configs: Configs
    """The model's configuration and its tokenizer's as they are to be saved."""
    undone: Sequence[Change]
    """What the Trainer's constructor had changed of it."""


def with_loop(run: WithPlan) -> Prepared:
    """Build the trainer, and try whether what it is to save can be saved."""
    from fttool.training.trainer import trainer_class

    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    configs = Configs(run.model, run.tokenizer)
    trainer: Any = None
    job = make_job(run, lambda: trainer)
    trainer = trainer_class(run.parts.trainer_class)(
        job,
        model=run.model,
        args=trainer_arguments(run),
        train_dataset=run.rows.train.as_dataset(),
        processing_class=run.tokenizer,
    )
    _remove_printers(trainer)
    undone = undo_changes(configs, run.parts, run.watch)
    if run.world.first:
        refuse_unsavable(run.model, run.tokenizer)
    return extended(run, Prepared, trainer=trainer, parameters=parameters, configs=configs, undone=undone)


def make_job(run: WithPlan, trainer: Callable[[], Loop]) -> Job:
    """What the loop is given; `trainer` is asked for once it is there."""
    from fttool.training.job import Job, Measuring, Output
    from fttool.training.saving import savable_state, states

    recipe, update, batching, parts = run.loaded.recipe, run.update, run.batching, run.parts
    regularizers = {f"regularizers.{index}": parts for index, parts in enumerate(update.regularizations)}
    stateful = states(**batching.built, schedule=update.factor, **regularizers)
    savable_state(stateful)  # to find out at the first checkpoint would cost the updates up to there
    backbone, asked = make_backbone(run), answering(run)
    score = parts.score if backbone is None else backbone.score
    return Job(
        recipe=recipe,
        rows=run.rows,
        batching=batching,
        update=update,
        score=score,
        learn=learning(run, score),
        items=parts.items,
        measuring=Measuring(
            measures=measures(run.loaded, parts.labels),
            answers=lambda: answers(run, asked),
            ask=lambda examples: ask(run, asked, lambda: trainer().job.progress, examples),
            asked_examples=asked_examples(recipe, run.rows.eval_examples),
        ),
        output=Output(
            checkpoints=run.folder / CHECKPOINTS,
            formats=saved_formats(recipe.checkpoints.dtype, run.source.stored()),
            stateful=stateful,
        ),
        stable=stable_phase(update.factor, run.length.total_steps),
        watch=run.watch,
        world=run.world,
        plan=run.plan,
        prove=lambda: run.world.all_gather({**run.plan.prove(trainer()), "peak_memory_bytes": peak_memory_bytes()}),
        keep_features=backbone.compute if backbone is not None else None,
        proof=proof_of(run, trainer),
    )


def proof_of(run: WithPlan, trainer: Callable[[], Loop]) -> Callable[[], Proven]:
    """What proves on the model, as it is when it is asked, what its batches assume of it."""
    return batch_proof(
        trainer,
        parts=run.parts,
        batches=run.batching.batches,
        planned=run.batching.planned,
        rows=run.rows.learned,
        positions=positions_of(run.model),
        numerics=run.numerics,
    )


def learning(run: WithPlan, score: Score) -> Callable[[Any, Mapping[str, Any]], Losses]:
    """What is learned by: the score, or the same with the logits of a few places at a time."""
    in_parts, places = run.parts.in_parts, places_at_once(run)
    if in_parts is None or places is None:
        if wanted_at_once(run) is not None:
            run.watch.note(f"the logits of all places are computed at once, as {at_once_because(run)}")
        return score
    return lambda model, batch: in_parts.learn(model, batch, places)


def make_backbone(run: WithPlan) -> Backbone | None:
    """The base model where it never trains; None for other strategies."""
    from fttool.features.backbone import Backbone

    if run.update.features is None:
        return None
    loader, obstacle = run.batching.loader, None
    if run.plan.processes > 1:
        obstacle = f"each of the {run.plan.processes} processes would need its own features"
    elif any(regularization.modify is not None for regularization in run.update.regularizations):
        obstacle = "a regularizer changes the model's modules"
    return Backbone(
        bounds=run.update.features,
        task_score=run.parts.score,
        loader=loader,
        lengths=run.rows.learned.lengths,
        visits=sum(1 for _ in loader.planned()) * run.length.total_steps / run.length.steps_per_epoch,
        folder=run.folder,
        obstacle=obstacle,
    )


def trainer_arguments(run: WithPlan) -> Any:
    """The trainer's arguments: what the recipe decides is said explicitly, so that no default of theirs applies."""
    recipe, plan = run.loaded.recipe, run.plan
    arguments: dict[str, Any] = {
        "output_dir": str(run.folder.parent),  # the Trainer makes it at once; `open_record` names the run's own
        "max_steps": run.length.total_steps,
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.optimizer.lr,
        "max_grad_norm": recipe.optimizer.max_grad_norm,
        "seed": recipe.run.seed,
        "data_seed": recipe.run.seed,
        "bf16": run.numerics.autocast == "bf16",
        "fp16": run.numerics.autocast == "fp16",
        "use_cpu": run.device.type == "cpu",
        "activation_checkpointing": recipe.model.gradient_checkpointing,
        "dataloader_num_workers": recipe.run.workers,
        "logging_steps": recipe.run.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it would log a loss of 0 for one that is not finite
        "eval_strategy": "no",  # core's callback asks for evaluations and checkpoints, after the last update too
        "save_strategy": "no",
        "report_to": "none",  # they would record these arguments: `tracking` records the recipe
        "disable_tqdm": True,
        "remove_unused_columns": False,  # collation decides what the model is given, not its forward's signature
        "push_to_hub": False,
        **run.parts.arguments,
        **plan.arguments,
    }
    if run.device.type == "cpu" and World.here().size == plan.processes > 1:
        _meet(arguments.get("ddp_backend") or "gloo", arguments.get("ddp_timeout", 1800))
    return run.parts.arguments_class(**arguments)


def _meet(backend: str, timeout: int) -> None:
    """Bring the processes together, as the arguments would do; but those tell the timeout only where there are GPUs."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))


def undo_changes(configs: Configs, parts: TaskParts, watch: Watch) -> list[Change]:
    """Set back what the Trainer's constructor has changed of the model's configuration, and say so."""
    undone = configs.undo(but=WHILE_TRAINING)
    if undone:
        listed = ", ".join(map(str, undone))
        watch.note(f"{parts.trainer_class.__name__} changed the configuration, which is set back: {listed}")
    return undone


def _remove_printers(trainer: Any) -> None:
    """The screen shows the run; the Trainer's own printing would only repeat it."""
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
