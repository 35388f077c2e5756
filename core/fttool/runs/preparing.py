"""A run before its first update: rows, model, what trains and how, and the trainer; all loaded and checked.

Read `prepare_run` first; the functions below it stand in the order in which it calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.errors import ModelError, Problem, RecipeError
from fttool.families import (
    ALWAYS,
    Batches,
    BatchingContext,
    Encoded,
    Factor,
    Features,
    FreezingContext,
    LayerRatesContext,
    LoadOptions,
    MaskingContext,
    Memory,
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
    Strategy,
    TaskContext,
    TaskParts,
    Thawing,
)
from fttool.observers import Observers
from fttool.recipe.reading import Loaded
from fttool.rows import chat
from fttool.rows.agreement import Agreement, compare, refuse_difference
from fttool.rows.data import Rows, TokenRows, prepare
from fttool.rows.reader import fingerprint
from fttool.runs.environment import (
    device,
    heed_the_recipe_alone,
    memory_bytes,
    native_bf16,
    quiet_libraries,
    refuse_missing_gpu,
)
from fttool.runs.proving import Planned, batch_proof
from fttool.runs.record import Record, peak_memory_bytes
from fttool.runs.rehearsing import refuse_unsavable
from fttool.runs.screen import Screen
from fttool.runs.tracking import Trackers, refuse_missing_trackers
from fttool.training.configs import WHILE_TRAINING, Change, Configs
from fttool.training.evaluation import evaluating, generate, measures, prompt_ids
from fttool.training.formats import saved_formats
from fttool.training.rates import stable_phase
from fttool.training.regularizing import regularizer_context
from fttool.training.world import ALONE, World
from fttool.training.yielded import (
    CheckedBatches,
    built,
    check_factors,
    check_optimizer,
    check_regularization,
    check_thawing,
    checked_keys,
    checked_order,
    checked_rate,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.rows.loader import EpochLoader
    from fttool.training.beginning import Beginning
    from fttool.training.features import Backbone
    from fttool.training.groups import Group
    from fttool.training.trainer import Loop


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a run, its summary and `--dry-run` need."""

    loaded: Loaded
    rows: Rows
    agreement: Agreement
    source: Source
    tokenizer: PreTrainedTokenizerBase
    parts: TaskParts
    model: PreTrainedModel
    numerics: Numerics
    plan: ShardingPlan
    memory: Callable[[], Memory]
    length: Length
    update: Update
    parameters: int
    """Of the model, trained or not."""
    trainer: Loop
    configs: Configs
    """The model's configuration as it is to be saved."""
    undone: Sequence[Change]
    """What the Trainer's constructor had changed of it."""
    notes: Sequence[str]
    """What the task says of the model."""


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
    retention_batches: Mapping[str, Callable[[], Any]]
    """All rows of each retention dataset once."""
    batches: Batches
    """Of the rows that are learned from."""
    collate: Callable[[Encoded], dict[str, Any]]
    """A row as a micro-batch of its own."""
    planned: Callable[[], Sequence[Planned]]
    """All micro-batches of the first epoch and of an evaluation."""
    built: dict[str, Any]
    """What the strategies built, by their place in the recipe; some of it may have state."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What trains, at which rate, pulled towards what."""

    groups: Sequence[Group]
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    """Makes one over parameter groups."""
    optimizer_groups: Callable[[], list[dict[str, Any]]]
    """The groups as the optimizer takes them, of the parameters that the model has now."""
    factor: Factor
    regularizations: Sequence[Regularization]
    features: Features | None
    export: Callable[[PreTrainedModel, Path], None] | None
    beginning: Beginning | None
    """Where the best model may be the one before the first update."""

    def files(self) -> list[dict[str, Any]]:
        """What `lock.json` notes of the files that regularizers read."""
        return [
            {"table": f"regularizers.{index}.{option}", "source": str(path), **fingerprint(path)}
            for index, one in enumerate(self.regularizations)
            for option, path in one.files.items()
        ]


def prepare_run(loaded: Loaded, screen: Screen, record: Record, observers: Observers, world: World = ALONE) -> Prepared:
    """Load and check everything, and build the trainer; nothing is written."""
    from fttool.training.trainer import refuse_other_libraries

    recipe = loaded.recipe
    quiet_libraries(loaded)
    heed_the_recipe_alone()
    refuse_other_libraries()
    refuse_missing_trackers(recipe)
    on = device()
    refuse_missing_gpu(on)
    numerics = built(recipe.precision, PrecisionContext(device=on, native_bf16=native_bf16(on)))
    screen.note(f"precision: {numerics.reason}")
    source, tokenizer, rows = load_rows(loaded, screen)
    for notice in rows.notices:
        screen.note(notice)
    agreement = agree(loaded, tokenizer, rows)
    refuse_difference(agreement, recipe.model.template_difference)
    for finding in agreement.findings():
        screen.note(finding.message, finding.hint)
    parts = task_parts(loaded, rows)
    refuse_other_libraries(parts.trainer_class)
    screen.stage("loading the model")
    options = load_options(loaded, parts, numerics)
    model = load_model(source, options, tokenizer, rows, recipe.run.seed)
    if parts.fit is not None:
        parts.fit(model, tokenizer)
    notes = list(parts.notes(model)) if parts.notes is not None else []
    for note in notes:
        screen.note(note)
    batching = make_batches(loaded, rows, tokenizer, parts, model, world)
    steps_per_epoch = -(-len(batching.loader) // recipe.accumulation)
    length = Length(recipe.run.max_steps or (recipe.run.epochs or 1) * steps_per_epoch, steps_per_epoch)
    context = regularizer_context(
        loaded,
        model=model,
        source=source,
        options=options,
        rows=rows,
        collate=batching.collate,
        parts=parts,
        total_steps=length.total_steps,
        record=record,
        screen=screen,
        world=world,
    )
    update = make_update(loaded, context, length, numerics, on)
    note_idle(update.groups, loaded, length.total_steps, options.drawn, screen)
    memory = partial(estimated, loaded, model, rows, batching, update, numerics, on)
    kinds = context.layers.kinds
    plan = make_plan(loaded, update, ShardingContext(device=on, numerics=numerics, layer_classes=kinds, memory=memory))
    if plan.reason:
        screen.note(f"sharding: {plan.reason}")

    from fttool.training.job import Job
    from fttool.training.saving import savable_state, states
    from fttool.training.trainer import trainer_class

    regularizers = {f"regularizers.{index}": one for index, one in enumerate(update.regularizations)}
    stateful = states(**batching.built, schedule=update.factor, **regularizers)
    savable_state(stateful)  # to find out at the first checkpoint would cost the updates up to there
    backbone = make_backbone(update, parts, batching.loader, rows, length, plan, record)
    job = Job(
        recipe=recipe,
        rows=rows,
        loader=batching.loader,
        eval_batches=batching.eval_batches,
        retention_batches=batching.retention_batches,
        score=parts.score if backbone is None else backbone.score,
        items=parts.items,
        measures=measures(recipe, parts.labels),
        groups=update.groups,
        make_optimizer=partial(optimizer_of, update, recipe.optimizer),
        factor=update.factor,
        stable=stable_phase(update.factor, length.total_steps),
        regularizations=update.regularizations,
        stateful=stateful,
        record=record,
        observers=observers,
        trackers=Trackers(recipe, record, screen, on=world.first),
        screen=screen,
        world=world,
        plan=plan,
        formats=saved_formats(recipe.checkpoints.dtype, source.stored()),
        prove=lambda: world.gather({**plan.prove(trainer), "peak_memory_bytes": peak_memory_bytes()}),
        answers=lambda: answers(loaded, model, tokenizer, rows, parts),
        backbone=backbone,
        proof=batch_proof(
            lambda: trainer,
            parts=parts,
            batches=batching.batches,
            planned=batching.planned,
            rows=rows.learned,
            positions=_positions(model),
            numerics=numerics,
        ),
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    configs = Configs(model)
    trainer = trainer_class(parts.trainer_class)(
        job,
        model=model,
        args=trainer_arguments(loaded, record, parts, numerics, plan, length, on),
        train_dataset=rows.train.as_dataset(),
        processing_class=tokenizer,
    )
    _remove_printers(trainer)
    undone = undo_changes(configs, parts, screen)
    if world.first:
        refuse_unsavable(model, tokenizer)
    return Prepared(
        loaded=loaded,
        rows=rows,
        agreement=agreement,
        source=source,
        tokenizer=tokenizer,
        parts=parts,
        model=model,
        numerics=numerics,
        plan=plan,
        memory=memory,
        length=length,
        update=update,
        parameters=parameters,
        trainer=trainer,
        configs=configs,
        undone=undone,
        notes=notes,
    )


def load_rows(loaded: Loaded, screen: Screen, first: int | None = None) -> tuple[Source, PreTrainedTokenizerBase, Rows]:
    """Tokenizer and rows, or the `first` few; the model's weights are not needed for them."""
    source = build_source(loaded)
    screen.stage("reading the tokenizer and the rows")
    tokenizer = source.tokenizer()
    chat.apply_template(tokenizer, loaded.recipe.model.chat_template, loaded.folder)
    return source, tokenizer, prepare(loaded, tokenizer, first=first)


def agree(loaded: Loaded, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> Agreement:
    """What differs between the tokens of training and those of inference, in the sampled rows."""
    masking, max_length = loaded.recipe.masking, loaded.recipe.batching.max_length
    encode = built(masking, MaskingContext(tokenizer=tokenizer, max_length=max_length))
    return compare(rows.sampled, masking.split, encode, tokenizer, max_length)


def build_source(loaded: Loaded) -> Source:
    """The loaders of the recipe's tokenizer and model."""
    recipe = loaded.recipe
    return built(
        recipe.model.source,
        SourceContext(folder=loaded.folder, trust_remote_code=recipe.model.trust_remote_code, seed=recipe.run.seed),
    )


def task_parts(loaded: Loaded, rows: Rows) -> TaskParts:
    """What the recipe's task yields for these rows; `DataError` for those whose classes it cannot learn."""
    counts, masking = rows.train.class_counts, loaded.recipe.masking
    parts = built(loaded.recipe.task, TaskContext(label_counts=counts, rows=len(rows.train), masking=masking))
    if parts.targets is not None:
        rows.refuse_classes(parts.targets)
    return parts


def load_options(loaded: Loaded, parts: TaskParts, numerics: Numerics) -> LoadOptions:
    """How the model is to be loaded."""
    import torch

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[numerics.weights]
    return LoadOptions(
        model_class=parts.model_class, dtype=dtype, attention=loaded.recipe.model.attention, config=parts.config
    )


def load_model(
    source: Source, options: LoadOptions, tokenizer: PreTrainedTokenizerBase, rows: Rows, seed: int
) -> PreTrainedModel:
    """The model with its weights, checked against tokenizer and rows; a head that its files lack is drawn by `seed`."""
    from transformers import set_seed

    set_seed(seed)
    model = source.model(options)
    table: Any = model.get_input_embeddings()
    embedded = table.weight.shape[0]
    if len(tokenizer) > embedded:
        message = f"the tokenizer has {len(tokenizer)} tokens, the model embeds {embedded}"
        hint = "use the tokenizer that belongs to this model"
        raise ModelError(Problem(message, hint=hint, key=("model", "source")))
    positions = _positions(model)
    every = (rows.train, rows.eval, *rows.general.values(), *rows.retention.values())
    longest = max(length for some in every for length in some.lengths)
    if positions is not None and longest > positions:
        message = f"a row has {longest} tokens, the model's positions end at {positions}"
        hint = f"set batching.max_length = {positions} or less"
        raise ModelError(Problem(message, hint=hint, key=("batching", "max_length")))
    chat.stop_at(model, chat.stop_ids(tokenizer, rows))
    return model


def _positions(model: PreTrainedModel) -> int | None:
    """Tokens that the model has positions for; None where their number has no end."""
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tables: list[Any] = [one for name, one in model.named_modules() if name.endswith("position_embeddings")]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    # RoBERTa and its kin number from behind the padding's own position on
    return positions if positions is None or padding is None else positions - padding - 1


def make_batches(
    loaded: Loaded,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    parts: TaskParts,
    model: PreTrainedModel,
    world: World,
) -> Batching:
    """This process's share of the training rows as mixing orders and batching groups them, and of all others."""
    from fttool.rows.loader import WithTargets, eval_batches, train_loader

    recipe = loaded.recipe
    pad_id: Any = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def context(lengths: Sequence[int], micro_batch: int) -> BatchingContext:
        return BatchingContext(
            lengths=lengths,
            micro_batch=micro_batch,
            global_batch=max(micro_batch, recipe.global_batch),
            pad_id=pad_id if pad_id is not None else 0,  # never seen: its labels are −100 and nothing attends to it
            seed=recipe.run.seed,
            attention=getattr(model.config, "_attn_implementation", None) or "eager",
        )

    general = rows.general if recipe.mixing.uses_general else {}
    order = built(
        recipe.mixing,
        MixingContext(
            sizes=rows.train_sizes,
            tokens=rows.train_tokens,
            seed=recipe.run.seed,
            names=[dataset.dataset for dataset in recipe.data.train],
            general_sizes=[len(some) for some in general.values()],
            lengths=rows.learned.lengths,
        ),
    )
    grouped = built(recipe.batching, context(rows.learned.lengths, recipe.micro_batch))

    def learning(yielded: Batches, micro_batch: int) -> Batches:
        batches = CheckedBatches(recipe.batching, yielded, micro_batch)
        return batches if parts.targets is None else WithTargets(batches, parts.targets)

    def measuring(some: TokenRows) -> Batches:
        micro_batch = recipe.evaluation.micro_batch or recipe.micro_batch
        return learning(built(recipe.batching, context(some.lengths, micro_batch)), micro_batch)

    def each_once(some: TokenRows) -> Callable[[], Any]:
        groups = measuring(some)
        return lambda: eval_batches(some, groups, world)

    def planned(some: TokenRows) -> Planned:
        return some, measuring(some).plan(range(len(some)), 0)

    batches, measured = learning(grouped, recipe.micro_batch), (rows.eval, *rows.retention.values())
    in_order = checked_order(recipe.mixing, order, len(rows.learned))
    loader = train_loader(rows.learned, in_order, batches, recipe.run.workers, world)
    return Batching(
        loader=loader,
        eval_batches=each_once(rows.eval),
        retention_batches={name: each_once(some) for name, some in rows.retention.items()},
        batches=batches,
        collate=lambda row: batches.collate([[row]]),
        planned=lambda: [(rows.learned, loader.plan), *(planned(some) for some in measured if len(some))],
        built={"mixing": order, "batching": grouped},
    )


def make_update(
    loaded: Loaded, context: RegularizerContext, length: Length, numerics: Numerics, on: torch.device
) -> Update:
    """Freezing, rates, regularizers, optimizer and schedule; the model's `requires_grad` is set here."""
    from fttool.training.beginning import Beginning
    from fttool.training.groups import freeze_the_rest, make_groups, optimizer_groups
    from fttool.training.pulls import anchored

    recipe, model, total = loaded.recipe, context.model, length.total_steps
    thawing, context = thaw(loaded, context, length)
    rate = built(recipe.layer_rates, LayerRatesContext(model=model, layers=context.layers))
    regularizations = [built(one, context) for one in recipe.regularizers]
    for strategy, one in zip(recipe.regularizers, regularizations, strict=True):
        check_regularization(strategy, one, context.trained)
        if one.modify is not None:
            one.modify(model)
    pulls = [pull for one in regularizations for pull in one.pulls]
    unfused = bool(pulls) and numerics.autocast == "fp16"
    own = built(recipe.optimizer, OptimizerContext(device=on, unfused=unfused, sharded=recipe.sharding.sharded))
    group_keys = checked_keys(recipe.optimizer, own.group_keys) if own.group_keys else None
    groups = make_groups(
        dict(model.named_parameters()),
        thawing.units,
        checked_rate(recipe.layer_rates, rate),
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        pulls=pulls,
        keys=lambda name, parameter: group_keys(name, parameter, context.layers) if group_keys else {},
    )
    if not groups:
        message, hint = f"freezing '{recipe.freezing.id()}' leaves nothing to train", 'say freezing = "full"'
        raise ModelError(Problem(message, hint=hint, key=("freezing",)))
    refuse_idle(groups, loaded, total)
    freeze_the_rest(model, groups)
    reserve = recipe.sharding.sharded and any(group.trains_in != ALWAYS for group in groups)
    in_optimizer = reserve or any(any(group.pulls) for group in groups)
    optimizer_class: Any = anchored(own.optimizer_class) if in_optimizer else own.optimizer_class
    factor = built(recipe.schedule, ScheduleContext(total_steps=total, lr=recipe.optimizer.lr))
    check_factors(recipe.schedule, factor, total)
    if not any(factor(step) for step in range(total)):
        message = f"the schedule gives each of the {total} updates a rate of 0"
        raise RecipeError(Problem(message, hint="set its warmup = 0", key=("schedule",)))
    return Update(
        groups=groups,
        optimizer=partial(optimizer_class, **own.options),
        optimizer_groups=lambda: optimizer_groups(model, groups, reserve=reserve),
        factor=factor,
        regularizations=regularizations,
        features=thawing.features,
        export=thawing.export,
        beginning=Beginning.of(context) if recipe.evaluation.best is not None else None,
    )


def optimizer_of(update: Update, strategy: Strategy) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters that the model has now."""
    groups = update.optimizer_groups()
    given = [{**group, "params": list(group["params"])} for group in groups]
    optimizer = update.optimizer(groups)
    check_optimizer(strategy, optimizer, given)
    return optimizer


def thaw(loaded: Loaded, context: RegularizerContext, length: Length) -> tuple[Thawing, RegularizerContext]:
    """What freezing decides, and the context completed with it: freezing may have added parameters."""
    from fttool.training.layers import layers

    model, seed = context.model, loaded.recipe.run.seed
    given = {id(p) for name, p in model.named_parameters() if name not in context.new}
    thawing = built(
        loaded.recipe.freezing,
        FreezingContext(
            model=model,
            layers=context.layers,
            total_steps=length.total_steps,
            steps_per_epoch=length.steps_per_epoch,
            seed=seed,
            new=context.new,
        ),
    )
    check_thawing(loaded.recipe.freezing, thawing, [name for name, _ in model.named_parameters()])
    return thawing, replace(
        context,
        layers=layers(model),
        trained=frozenset(name for unit in thawing.units for name in unit.parameters),
        new=frozenset(name for name, p in model.named_parameters() if id(p) not in given),
    )


def make_backbone(
    update: Update,
    parts: TaskParts,
    loader: EpochLoader,
    rows: Rows,
    length: Length,
    plan: ShardingPlan,
    record: Record,
) -> Backbone | None:
    """The base model where it never trains; None for other strategies."""
    from fttool.training.features import Backbone

    if update.features is None:
        return None
    obstacle = None
    if plan.processes > 1:
        obstacle = f"each of the {plan.processes} processes would need its own features"
    elif any(one.modify is not None for one in update.regularizations):
        obstacle = "a regularizer changes the model's modules"
    return Backbone(
        bounds=update.features,
        task_score=parts.score,
        loader=loader,
        lengths=rows.learned.lengths,
        visits=sum(1 for _ in loader.planned()) * length.total_steps / length.steps_per_epoch,
        folder=record.path,
        obstacle=obstacle,
    )


def estimated(
    loaded: Loaded,
    model: PreTrainedModel,
    rows: Rows,
    batching: Batching,
    update: Update,
    numerics: Numerics,
    on: torch.device,
) -> Memory:
    """The memory that the run takes, by the largest micro-batch of its first epoch."""
    from fttool.training.layers import layers
    from fttool.training.memory import estimate

    recipe = loaded.recipe
    launch, learned = recipe.sharding.launch, rows.learned
    tokens = batching.loader.largest(learned.lengths, at_once=recipe.run.micro_batch != "auto")
    labels = sum(part.label_tokens for part in learned.parts)
    return estimate(
        model,
        layers(model),
        optimizer=update.optimizer,
        groups=update.optimizer_groups(),
        tokens=tokens,
        learned=-(-tokens * labels // sum(learned.lengths)),
        recomputed=recipe.model.gradient_checkpointing,
        half=numerics.autocast != "no",
        device=memory_bytes(on, launch.processes // launch.nodes),
    )


def make_plan(loaded: Loaded, update: Update, context: ShardingContext) -> ShardingPlan:
    """How the run is spread over processes; in a process that looks at it by itself, without an engine."""
    varies = any(group.trains_in != ALWAYS for group in update.groups)
    trained = sum(group.count for group in update.groups)
    plan = built(loaded.recipe.sharding, replace(context, varies=varies, trained=trained))
    refuse_unseen_weights(plan, update, loaded)
    if World.here().size != plan.processes:  # a dry run, or a verb
        return replace(plan, arguments={}, engage=None, split=None)
    return plan


def refuse_unseen_weights(plan: ShardingPlan, update: Update, loaded: Loaded) -> None:
    """Raise where a regularizer looks at weights after each update, and the sharding leaves none in the model."""
    for index, one in enumerate(update.regularizations):
        if plan.weights_apart and one.after_update is not None:
            name = loaded.recipe.regularizers[index].id()
            message = f"{name} looks at the weights after each update, and this sharding keeps them apart then"
            raise RecipeError(Problem(message, hint='say sharding.name = "fsdp"', key=("regularizers", index)))


def refuse_idle(groups: Sequence[Group], loaded: Loaded, total_steps: int) -> None:
    """Raise where an update would have nothing to train; what trains changes only where a stretch begins or ends."""
    turns = {turn for group in groups for stretch in group.trains_in for turn in (stretch.start, stretch.stop)}
    for update in sorted({0, *turns} & set(range(total_steps))):
        if not any(group.trains(update) for group in groups):
            message = f"freezing '{loaded.recipe.freezing.id()}' leaves nothing to train in update {update + 1}"
            raise ModelError(Problem(message, hint='say freezing = "full"', key=("freezing",)))


def note_idle(groups: Sequence[Group], loaded: Loaded, total_steps: int, drawn: set[str], screen: Screen) -> None:
    """Say how much of what freezing would train sometime never gets its turn, because the run is too short; and which
    parameters were `drawn` at random, and never learn.
    """
    idle = sum(group.count for group in groups if not group.trains_before(total_steps))
    if idle:
        of_all = f"{idle:,} of {sum(group.count for group in groups):,} parameters"
        screen.note(
            f"freezing '{loaded.recipe.freezing.id()}': {of_all} get no turn in {total_steps:,} updates, "
            "and stay as they are"
        )
    untrained = sorted(drawn.difference(*(group.names for group in groups if group.trains_before(total_steps))))
    if untrained:
        more = f" and {len(untrained) - 1} more" if len(untrained) > 1 else ""
        screen.note(f"{untrained[0]}{more}: drawn at random, for the model's files lack it, and never trained")


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
        "per_device_train_batch_size": recipe.micro_batch,
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
        "report_to": "none",  # they would record these arguments: `tracking` records the recipe
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "push_to_hub": False,
        **parts.arguments,
        **plan.arguments,
    }
    if on.type == "cpu" and World.here().size == plan.processes > 1:
        _meet(arguments.get("ddp_backend") or "gloo", arguments.get("ddp_timeout", 1800))
    return parts.arguments_class(**arguments)


def _meet(backend: str, timeout: int) -> None:
    """Bring the processes together, as the arguments would do; but those tell the timeout only where there are GPUs."""
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))


def undo_changes(configs: Configs, parts: TaskParts, screen: Screen) -> list[Change]:
    """Set back what the Trainer's constructor has changed of the model's configuration, and say so."""
    undone = configs.undo(but=WHILE_TRAINING)
    if undone:
        listed = ", ".join(map(str, undone))
        screen.note(f"{parts.trainer_class.__name__} changed the model's configuration, which is set back: {listed}")
    return undone


def _remove_printers(trainer: Any) -> None:
    """The screen shows the run; the Trainer's own printing would only repeat it."""
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


def answers(loaded: Loaded, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Rows, parts: TaskParts) -> list[str]:
    """The model's present answers to the first evaluation prompts."""
    settings = loaded.recipe.evaluation
    sampled = [example for example in rows.eval_examples if example.messages or example.prompt][: settings.samples]
    if parts.answer is not None:
        with evaluating(model):
            max_length = loaded.recipe.batching.max_length
            return [parts.answer(model, tokenizer, example, max_length) for example in sampled]
    return [generate(model, tokenizer, prompt_ids(example, tokenizer), settings.sample_tokens) for example in sampled]
