"""One run, from a valid recipe to the run directory; read it top to bottom.

rows → model → what trains, and how → the loop → the final model and the summary.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool import chat, checkpoints, closing
from fttool.data import Rows, prepare
from fttool.environment import device, native_bf16, quiet_libraries, refuse_trackers
from fttool.errors import DivergedError, ExitCode, ModelError, Problem, RecipeError, UsageError
from fttool.evaluation import generate, measures, prompt_ids
from fttool.families import (
    BatchingContext,
    FreezingContext,
    LayerRatesContext,
    LoadOptions,
    MixingContext,
    Numerics,
    OptimizerContext,
    PrecisionContext,
    RegularizerContext,
    ScheduleContext,
    ShardingContext,
    Source,
    SourceContext,
    TaskContext,
    TaskParts,
)
from fttool.faults import explained
from fttool.observers import Observers
from fttool.reading import Loaded
from fttool.record import Record, lock
from fttool.resume import refuse_differences
from fttool.screen import Screen

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.groups import Group
    from fttool.loader import EpochLoader
    from fttool.training import Job, Loop


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run before its first update: everything is loaded and checked."""

    loaded: Loaded
    rows: Rows
    source: Source
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    numerics: Numerics
    groups: Sequence[Group]
    total_steps: int
    steps_per_epoch: int
    trainer: Loop
    plan: Any


def run(loaded: Loaded, screen: Screen, *, resume: bool = False) -> ExitCode:
    """Fine-tune as the recipe says; returns the exit code of a run that ended by itself or by a signal."""
    with explained(loaded):
        record = Record.at(loaded, resume)

        def note_fault(event: str, **fault: str) -> None:
            screen.note(f"plugin '{fault['plugin']}' is switched off: {fault['hook']} raised {fault['error']}")
            record.event(event, **fault)

        observers = Observers(loaded, note_fault)
        observers.call("fttool_recipe_loaded", recipe=loaded.recipe)
        prepared = prepare_run(loaded, screen, record, observers)
        checkpoint = open_record(prepared, record, screen, resume)
        return train(prepared, record, observers, screen, checkpoint)


# -- before the first update ---------------------------------------------------------------------------------------


def load_rows(loaded: Loaded, screen: Screen) -> tuple[Source, PreTrainedTokenizerBase, Rows]:
    """Tokenizer and rows; the model's weights are not needed for them."""
    recipe = loaded.recipe
    context = SourceContext(
        folder=loaded.folder, trust_remote_code=recipe.model.trust_remote_code, seed=recipe.run.seed
    )
    source = recipe.model.source.build(context)
    screen.stage("reading the tokenizer and the rows")
    tokenizer = source.tokenizer()
    chat.apply_template(tokenizer, recipe.model.chat_template, loaded.folder)
    return source, tokenizer, prepare(loaded, tokenizer)


def prepare_run(loaded: Loaded, screen: Screen, record: Record, observers: Observers) -> Prepared:
    """Load and check everything, and build the trainer."""
    recipe = loaded.recipe
    quiet_libraries(loaded)
    refuse_trackers(recipe)
    on = device()
    plan = recipe.sharding.build(ShardingContext(device=on, recipe_processes=recipe.sharding.world_size))
    numerics = recipe.precision.build(PrecisionContext(device=on, native_bf16=native_bf16(on)))
    screen.note(f"precision: {numerics.reason}")
    source, tokenizer, rows = load_rows(loaded, screen)

    from fttool.groups import freeze_the_rest, make_groups, optimizer_groups
    from fttool.layers import layers
    from fttool.loader import eval_batches, train_loader
    from fttool.pulls import anchored
    from fttool.training import Job, savable_state, states, trainer_class

    parts = recipe.task.build(TaskContext())
    screen.stage("loading the model")
    model = load_model(loaded, source, parts, numerics, tokenizer, rows)

    order = recipe.mixing.build(MixingContext(sizes=rows.train_sizes, tokens=rows.train_tokens, seed=recipe.run.seed))
    batches, loader = _loader(loaded, rows, order, tokenizer, train_loader)
    steps_per_epoch = -(-len(loader) // recipe.accumulation)
    total_steps = recipe.run.max_steps or (recipe.run.epochs or 1) * steps_per_epoch

    parts_of = layers(model)
    units = recipe.freezing.build(
        FreezingContext(model=model, layers=parts_of, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    )
    rate = recipe.layer_rates.build(LayerRatesContext(model=model, layers=parts_of))
    regularizations = [
        one.build(RegularizerContext(model=model, layers=parts_of, total_steps=total_steps))
        for one in recipe.regularizers
    ]
    for one in regularizations:
        if one.modify is not None:
            one.modify(model)
    optimizer = recipe.optimizer
    groups = make_groups(
        dict(model.named_parameters()),
        units,
        rate,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        pulls=[one.pull for one in regularizations if one.pull is not None],
    )
    if not groups:
        raise ModelError(
            Problem(
                f"freezing '{recipe.freezing.id()}' leaves nothing to train",
                hint='choose another: freezing = "full"',
                key=("freezing",),
            )
        )
    freeze_the_rest(model, groups)
    in_optimizer = any(group.pull or group.decoupled_pull or group.thaws_at for group in groups)
    own = optimizer.build(OptimizerContext(device=on, unfused=in_optimizer and numerics.autocast == "fp16"))
    optimizer_class: Any = anchored(own.optimizer_class) if in_optimizer else own.optimizer_class
    factor = recipe.schedule.build(ScheduleContext(total_steps=total_steps, lr=optimizer.lr))
    if not any(factor(step) for step in range(total_steps)):
        message = f"the schedule gives each of the {total_steps} updates a rate of 0"
        raise RecipeError(Problem(message, hint="set its warmup = 0", key=("schedule",)))

    # Evaluation has its own batches: all rows once, in order, by the same strategy.
    eval_context = _batching_context(
        loaded, rows.eval.lengths, tokenizer, recipe.evaluation.micro_batch or recipe.run.micro_batch
    )
    measuring = recipe.batching.build(eval_context)
    stateful = states(
        mixing=order,
        batching=batches,
        schedule=factor,
        **{f"regularizers.{index}": one for index, one in enumerate(regularizations)},
    )
    savable_state(stateful)  # to find out at the first checkpoint would cost the updates up to there
    job = Job(
        recipe=recipe,
        rows=rows,
        loader=loader,
        eval_batches=lambda: eval_batches(rows.eval, measuring),
        score=parts.score,
        measures=measures(recipe),
        make_optimizer=lambda: optimizer_class(optimizer_groups(model, groups), **own.options),
        factor=factor,
        regularizations=regularizations,
        stateful=stateful,
        record=record,
        observers=observers,
        screen=screen,
        answers=lambda: _answers(loaded, model, tokenizer, rows),
    )
    trainer = trainer_class(parts.trainer_class)(
        job,
        model=model,
        args=_arguments(loaded, record, parts, numerics, plan, total_steps, on),
        train_dataset=rows.train.as_dataset(),
        processing_class=tokenizer,
    )
    _remove_printers(trainer)
    return Prepared(
        loaded=loaded,
        rows=rows,
        source=source,
        tokenizer=tokenizer,
        model=model,
        numerics=numerics,
        groups=groups,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        trainer=trainer,
        plan=plan,
    )


def load_model(
    loaded: Loaded,
    source: Source,
    parts: TaskParts,
    numerics: Numerics,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
) -> PreTrainedModel:
    """The model with its weights, checked against tokenizer and rows."""
    import torch

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[numerics.weights]
    model = source.model(
        LoadOptions(model_class=parts.model_class, dtype=dtype, attention=loaded.recipe.model.attention)
    )
    config: Any = model.config.get_text_config()
    table: Any = model.get_input_embeddings()
    embedded = table.weight.shape[0]
    if len(tokenizer) > embedded:
        message = f"the tokenizer has {len(tokenizer)} tokens, the model embeds {embedded}"
        hint = "use the tokenizer that belongs to this model"
        raise ModelError(Problem(message, hint=hint, key=("model", "source")))
    positions = getattr(config, "max_position_embeddings", None)
    longest = max([*rows.train.lengths, *rows.eval.lengths])
    if positions is not None and longest > positions:
        message = f"a row has {longest} tokens, the model's positions end at {positions}"
        hint = f"set batching.max_length = {positions} or less"
        raise ModelError(Problem(message, hint=hint, key=("batching", "max_length")))
    chat.stop_at(model, chat.stop_ids(tokenizer, rows))
    return model


def _batching_context(
    loaded: Loaded, lengths: Sequence[int], tokenizer: PreTrainedTokenizerBase, micro_batch: int
) -> BatchingContext:
    recipe = loaded.recipe
    pad_id: Any = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return BatchingContext(
        lengths=lengths,
        micro_batch=micro_batch,
        global_batch=max(micro_batch, recipe.global_batch),
        pad_id=pad_id if pad_id is not None else 0,  # never seen: its labels are −100 and nothing attends to it
        seed=recipe.run.seed,
    )


def _loader(
    loaded: Loaded, rows: Rows, order: Any, tokenizer: PreTrainedTokenizerBase, train_loader: Any
) -> tuple[Any, EpochLoader]:
    context = _batching_context(loaded, rows.train.lengths, tokenizer, loaded.recipe.run.micro_batch)
    batches = loaded.recipe.batching.build(context)
    return batches, train_loader(rows.train, order, batches, loaded.recipe.run.workers)


def _arguments(
    loaded: Loaded, record: Record, parts: TaskParts, numerics: Numerics, plan: Any, total_steps: int, on: Any
) -> Any:
    """The trainer's arguments: what the recipe decides is said explicitly, so that no default of theirs applies."""
    run_table, recipe = loaded.recipe.run, loaded.recipe
    arguments: dict[str, Any] = {
        "output_dir": str(record.path.parent),  # the Trainer makes it at once; `open_record` names the run's own
        "max_steps": total_steps,
        "per_device_train_batch_size": run_table.micro_batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.optimizer.lr,
        "max_grad_norm": recipe.optimizer.max_grad_norm,
        "seed": run_table.seed,
        "data_seed": run_table.seed,
        "bf16": numerics.autocast == "bf16",
        "fp16": numerics.autocast == "fp16",
        "use_cpu": on.type == "cpu",
        "activation_checkpointing": recipe.model.gradient_checkpointing,
        "dataloader_num_workers": run_table.workers,
        "logging_steps": run_table.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": list(recipe.tracking.to) or "none",
        "run_name": loaded.name,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "push_to_hub": False,
        **parts.arguments,
        **plan.arguments,
    }
    return parts.arguments_class(**arguments)


def _remove_printers(trainer: Any) -> None:
    """The screen shows the run; the Trainer's own printing would only repeat it."""
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


def _answers(loaded: Loaded, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> list[str]:
    """The model's present answers to the first evaluation prompts."""
    settings = loaded.recipe.evaluation
    sampled = [example for example in rows.eval_examples if example.messages or example.prompt][: settings.samples]
    return [generate(model, tokenizer, prompt_ids(example, tokenizer), settings.sample_tokens) for example in sampled]


# -- the record and the loop ---------------------------------------------------------------------------------------


def open_record(prepared: Prepared, record: Record, screen: Screen, resume: bool) -> Any:
    """Make the run directory, or find the checkpoint to resume from; nothing was written before this."""
    loaded, job = prepared.loaded, prepared.trainer.job
    locked = lock(loaded, prepared.rows.sources, prepared.source.origin)
    if not resume:
        record.create(loaded, locked)
        record.event("started", total_steps=prepared.total_steps)
        checkpoint = None
    else:
        refuse_differences(record, loaded, locked)
        checkpoint, rejected = checkpoints.newest(record.checkpoints)
        for sentence in rejected:
            screen.note(sentence)
            record.event("checkpoint_rejected", what=sentence)
        if checkpoint is not None:
            from fttool.training import restore

            if checkpoint.step >= prepared.total_steps:
                raise UsageError(
                    f"the run is complete: its newest checkpoint has step {checkpoint.step} of {prepared.total_steps}",
                    hint="to go on, raise run.max_steps or run.epochs under a schedule that allows it",
                )
            restore(job, checkpoint)
        record.extend(loaded)
        record.event("resumed", step=checkpoint.step if checkpoint else 0, total_steps=prepared.total_steps)
        screen.note(f"resuming from step {checkpoint.step if checkpoint else 0}")
    prepared.trainer.args.output_dir = str(record.path)
    difference = chat.template_difference(prepared.tokenizer, prepared.rows)
    if difference:
        screen.note(f"the template renders prompts differently at inference: {difference}")
        record.event("template_difference", what=difference)
    return checkpoint


def train(prepared: Prepared, record: Record, observers: Observers, screen: Screen, checkpoint: Any) -> ExitCode:
    """The loop, then the final model; whatever happens, `summary.json` says how it ended."""
    trainer, job = prepared.trainer, prepared.trainer.job
    observers.call(
        "fttool_run_started",
        recipe=prepared.loaded.recipe,
        run_dir=record.path,
        total_steps=prepared.total_steps,
    )
    status, code = "failed", ExitCode.FAILURE
    try:
        with stopping(job):
            screen.started(prepared.total_steps, checkpoint.step if checkpoint else 0)
            trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        if job.signal is not None:
            status = "interrupted"
            code = ExitCode.PREEMPTED if job.signal == signal.SIGTERM else ExitCode.INTERRUPTED
        else:
            screen.stopped()
            screen.stage("saving the model")
            finish(prepared, record)
            status, code = "finished", ExitCode.OK
    except DivergedError:
        status = "diverged"
        raise
    finally:
        screen.stopped()
        summary = closing.summarize(prepared, status)
        record.summary(summary)
        record.event("ended", status=status, step=trainer.state.global_step)
        observers.call("fttool_run_finished", status=status, summary=summary)
    screen.finished(summary, closing.text(prepared, record, summary))
    return code


def finish(prepared: Prepared, record: Record) -> None:
    """The final weights: those of the best checkpoint where the recipe asks for it; then save them."""
    trainer, job = prepared.trainer, prepared.trainer.job
    settings, progress = prepared.loaded.recipe.evaluation, job.progress
    changed = False
    if settings.best and progress.best_step not in (None, trainer.state.global_step):
        trainer._load_from_checkpoint(str(record.checkpoints / f"checkpoint-{progress.best_step}"))  # pyright: ignore[reportPrivateUsage]
        changed = True
    for one in job.regularizations:
        if one.final_weights is not None:
            one.final_weights(prepared.model)
            changed = True
    if changed and len(prepared.rows.eval):
        trainer.evaluate()
    trainer.save_final(record.model)
    record.card(closing.card(prepared))


@contextmanager
def stopping(job: Job) -> Generator[None]:
    """The first SIGINT or SIGTERM lets the update finish and saves; a second SIGINT stops at once."""

    def note(number: int, frame: Any) -> None:
        if job.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        job.signal = number
        job.screen.note("stopping after this update, with a checkpoint; Ctrl-C again to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can receive signals
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
