"""A run before its first update: rows, model, what trains and how, and the trainer; all loaded and checked.

Read `prepare_run` first; the functions below it stand in the order in which it calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool import chat
from fttool.data import Rows, prepare
from fttool.environment import device, native_bf16, quiet_libraries, refuse_trackers
from fttool.errors import ModelError, Problem, RecipeError
from fttool.evaluation import generate, measures, prompt_ids
from fttool.families import (
    BatchingContext,
    Factor,
    FreezingContext,
    LayerRatesContext,
    LoadOptions,
    MixingContext,
    Numerics,
    OptimizerContext,
    PrecisionContext,
    Regularization,
    RegularizerContext,
    ScheduleContext,
    ShardingContext,
    ShardingPlan,
    Source,
    SourceContext,
    TaskContext,
    TaskParts,
)
from fttool.observers import Observers
from fttool.reading import Loaded
from fttool.record import Record
from fttool.screen import Screen

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.groups import Group
    from fttool.loader import EpochLoader
    from fttool.training import Loop


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a run, its summary and `--dry-run` need."""

    loaded: Loaded
    rows: Rows
    source: Source
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    numerics: Numerics
    plan: ShardingPlan
    length: Length
    update: Update
    trainer: Loop


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is, in updates."""

    total_steps: int
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class Batching:
    """The rows in micro-batches."""

    loader: EpochLoader
    eval_batches: Callable[[], Any]
    """All evaluation rows once."""
    built: dict[str, Any]
    """What the strategies built, by their place in the recipe; some of it may have state."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What trains, at which rate, pulled towards what."""

    groups: Sequence[Group]
    make_optimizer: Callable[[], torch.optim.Optimizer]
    factor: Factor
    regularizations: Sequence[Regularization]
    export: Callable[[PreTrainedModel, Path], None] | None


def prepare_run(loaded: Loaded, screen: Screen, record: Record, observers: Observers) -> Prepared:
    """Load and check everything, and build the trainer; nothing is written."""
    recipe = loaded.recipe
    quiet_libraries(loaded)
    refuse_trackers(recipe)
    on = device()
    plan = recipe.sharding.build(ShardingContext(device=on, recipe_processes=recipe.sharding.world_size))
    numerics = recipe.precision.build(PrecisionContext(device=on, native_bf16=native_bf16(on)))
    screen.note(f"precision: {numerics.reason}")
    source, tokenizer, rows = load_rows(loaded, screen)
    parts = recipe.task.build(TaskContext())
    screen.stage("loading the model")
    model = load_model(loaded, source, parts, numerics, tokenizer, rows)
    batching = make_batches(loaded, rows, tokenizer)
    steps_per_epoch = -(-len(batching.loader) // recipe.accumulation)
    length = Length(recipe.run.max_steps or (recipe.run.epochs or 1) * steps_per_epoch, steps_per_epoch)
    update = make_update(loaded, model, length, numerics, on)

    from fttool.training import Job, savable_state, states, trainer_class

    regularizers = {f"regularizers.{index}": one for index, one in enumerate(update.regularizations)}
    stateful = states(**batching.built, schedule=update.factor, **regularizers)
    savable_state(stateful)  # to find out at the first checkpoint would cost the updates up to there
    job = Job(
        recipe=recipe,
        rows=rows,
        loader=batching.loader,
        eval_batches=batching.eval_batches,
        score=parts.score,
        measures=measures(recipe),
        groups=update.groups,
        make_optimizer=update.make_optimizer,
        factor=update.factor,
        regularizations=update.regularizations,
        stateful=stateful,
        record=record,
        observers=observers,
        screen=screen,
        answers=lambda: answers(loaded, model, tokenizer, rows),
    )
    trainer = trainer_class(parts.trainer_class)(
        job,
        model=model,
        args=trainer_arguments(loaded, record, parts, numerics, plan, length, on),
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
        plan=plan,
        length=length,
        update=update,
        trainer=trainer,
    )


def load_rows(loaded: Loaded, screen: Screen, first: int | None = None) -> tuple[Source, PreTrainedTokenizerBase, Rows]:
    """Tokenizer and rows, or the `first` few; the model's weights are not needed for them."""
    recipe = loaded.recipe
    context = SourceContext(
        folder=loaded.folder, trust_remote_code=recipe.model.trust_remote_code, seed=recipe.run.seed
    )
    source = recipe.model.source.build(context)
    screen.stage("reading the tokenizer and the rows")
    tokenizer = source.tokenizer()
    chat.apply_template(tokenizer, recipe.model.chat_template, loaded.folder)
    return source, tokenizer, prepare(loaded, tokenizer, first=first)


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


def make_batches(loaded: Loaded, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Batching:
    """The training rows as mixing orders and batching groups them; evaluation has batches of its own."""
    from fttool.loader import eval_batches, train_loader

    recipe = loaded.recipe
    pad_id: Any = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def context(lengths: Sequence[int], micro_batch: int) -> BatchingContext:
        return BatchingContext(
            lengths=lengths,
            micro_batch=micro_batch,
            global_batch=max(micro_batch, recipe.global_batch),
            pad_id=pad_id if pad_id is not None else 0,  # never seen: its labels are −100 and nothing attends to it
            seed=recipe.run.seed,
        )

    order = recipe.mixing.build(MixingContext(sizes=rows.train_sizes, tokens=rows.train_tokens, seed=recipe.run.seed))
    batches = recipe.batching.build(context(rows.train.lengths, recipe.run.micro_batch))
    measuring = recipe.batching.build(
        context(rows.eval.lengths, recipe.evaluation.micro_batch or recipe.run.micro_batch)
    )
    return Batching(
        loader=train_loader(rows.train, order, batches, recipe.run.workers),
        eval_batches=lambda: eval_batches(rows.eval, measuring),
        built={"mixing": order, "batching": batches},
    )


def make_update(loaded: Loaded, model: PreTrainedModel, length: Length, numerics: Numerics, on: torch.device) -> Update:
    """Freezing, rates, regularizers, optimizer and schedule; the model's `requires_grad` is set here."""
    from fttool.groups import freeze_the_rest, make_groups, optimizer_groups
    from fttool.layers import layers
    from fttool.pulls import anchored

    recipe, total = loaded.recipe, length.total_steps
    thawing = recipe.freezing.build(
        FreezingContext(
            model=model,
            layers=layers(model),
            total_steps=total,
            steps_per_epoch=length.steps_per_epoch,
            seed=recipe.run.seed,
        )
    )
    found = layers(model)  # freezing may have added parameters
    rate = recipe.layer_rates.build(LayerRatesContext(model=model, layers=found))
    context = RegularizerContext(model=model, layers=found, total_steps=total)
    regularizations = [one.build(context) for one in recipe.regularizers]
    for one in regularizations:
        if one.modify is not None:
            one.modify(model)
    groups = make_groups(
        dict(model.named_parameters()),
        thawing.units,
        rate,
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        pulls=[one.pull for one in regularizations if one.pull is not None],
    )
    if not groups:
        message, hint = f"freezing '{recipe.freezing.id()}' leaves nothing to train", 'say freezing = "full"'
        raise ModelError(Problem(message, hint=hint, key=("freezing",)))
    refuse_idle(groups, loaded, total)
    freeze_the_rest(model, groups)
    in_optimizer = any(any(group.pulls) for group in groups)
    own = recipe.optimizer.build(OptimizerContext(device=on, unfused=in_optimizer and numerics.autocast == "fp16"))
    optimizer_class: Any = anchored(own.optimizer_class) if in_optimizer else own.optimizer_class
    factor = recipe.schedule.build(ScheduleContext(total_steps=total, lr=recipe.optimizer.lr))
    if not any(factor(step) for step in range(total)):
        message = f"the schedule gives each of the {total} updates a rate of 0"
        raise RecipeError(Problem(message, hint="set its warmup = 0", key=("schedule",)))
    return Update(
        groups=groups,
        make_optimizer=lambda: optimizer_class(optimizer_groups(model, groups), **own.options),
        factor=factor,
        regularizations=regularizations,
        export=thawing.export,
    )


def refuse_idle(groups: Sequence[Group], loaded: Loaded, total_steps: int) -> None:
    """Raise where an update would have nothing to train; what trains changes only where a stretch begins or ends."""
    turns = {turn for group in groups for stretch in group.trains_in for turn in (stretch.start, stretch.stop)}
    for update in sorted({0, *turns} & set(range(total_steps))):
        if not any(group.trains(update) for group in groups):
            message = f"freezing '{loaded.recipe.freezing.id()}' leaves nothing to train in update {update + 1}"
            raise ModelError(Problem(message, hint='say freezing = "full"', key=("freezing",)))


def trainer_arguments(
    loaded: Loaded,
    record: Record,
    parts: TaskParts,
    numerics: Numerics,
    plan: ShardingPlan,
    length: Length,
    on: torch.device,
) -> Any:
    """The trainer's arguments: what the recipe decides is said explicitly, so that no default of theirs applies."""
    run_table, recipe = loaded.recipe.run, loaded.recipe
    arguments: dict[str, Any] = {
        "output_dir": str(record.path.parent),  # the Trainer makes it at once; `open_record` names the run's own
        "max_steps": length.total_steps,
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


def answers(loaded: Loaded, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> list[str]:
    """The model's present answers to the first evaluation prompts."""
    settings = loaded.recipe.evaluation
    sampled = [example for example in rows.eval_examples if example.messages or example.prompt][: settings.samples]
    return [generate(model, tokenizer, prompt_ids(example, tokenizer), settings.sample_tokens) for example in sampled]
