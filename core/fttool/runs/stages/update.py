"""The update: what trains, at which rate, pulled towards what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fttool.contracts.model import ALWAYS, Freezing, FreezingContext, FreezingPlan, LayerRatesContext
from fttool.contracts.update import Factor, OptimizerContext, Regularization, RegularizerContext
from fttool.errors import ModelError, Problem, RecipeError, counted
from fttool.recipe.loaded import Loaded
from fttool.runs.stages.model import WithModel
from fttool.runs.stages.setup import extended
from fttool.training.rates import factor_of
from fttool.training.regularizing import regularizer_context
from fttool.training.update import Update
from fttool.watch.watch import Watch
from fttool.yielded import (
    built,
    check_factors,
    check_freezing_plan,
    check_regularization,
    checked_keys,
    checked_rate,
)

if TYPE_CHECKING:
    from fttool.training.groups import Group

ALL_OF_IT = f'set freezing = "{Freezing.place.default}"'
"""What to do where nothing trains."""


@dataclass(frozen=True, kw_only=True)
class WithUpdate(WithModel):
    """A run that knows what an update is."""

    update: Update
    """What trains, at which rate, pulled towards what."""
    layer_classes: frozenset[str]
    """Names of the classes of the model's layers, as it was loaded."""


def with_update(run: WithModel) -> WithUpdate:
    """Decide what trains and how; what never gets its turn is said."""
    context = regularizer_context(
        run.loaded,
        model=run.model,
        source=run.source,
        options=run.options,
        tokenizer=run.tokenizer,
        rows=run.rows,
        collate=run.batching.batches.collate,
        parts=run.parts,
        total_steps=run.length.total_steps,
        run_dir=run.folder,
        track=run.watch.track,
        world=run.world,
    )
    update = make_update(run, context)
    note_idle(update.groups, run.loaded, run.length.total_steps, run.options.newly_initialised, run.watch)
    return extended(run, WithUpdate, update=update, layer_classes=context.layers.kinds)


def make_update(run: WithModel, context: RegularizerContext) -> Update:
    """Freezing, rates, regularizers, optimizer and schedule; the model's `requires_grad` is set here."""
    from fttool.training.groups import freeze_the_rest, make_groups, optimizer_groups
    from fttool.training.initial_weights import InitialWeights
    from fttool.training.pulls import anchored

    recipe, model, total = run.loaded.recipe, run.model, run.length.total_steps
    freezing, context = unfreeze(run, context)
    rate = built(recipe.layer_rates, LayerRatesContext(model=model, layers=context.layers, **run.loaded.common))
    regularizations = regularize(run, context)
    pulls = [pull for regularization in regularizations for pull in regularization.pulls]
    unfused = bool(pulls) and run.numerics.autocast == "fp16"
    own = built(
        recipe.optimizer,
        OptimizerContext(device=run.device, unfused=unfused, sharded=recipe.sharding.sharded, **run.loaded.common),
    )
    group_keys = checked_keys(recipe.optimizer, own.group_keys) if own.group_keys else None
    groups = make_groups(
        dict(model.named_parameters()),
        freezing.units,
        checked_rate(recipe.layer_rates, rate),
        lr=recipe.optimizer.lr,
        weight_decay=recipe.optimizer.weight_decay,
        pulls=pulls,
        keys=lambda name, parameter: group_keys(name, parameter, context.layers) if group_keys else {},
    )
    if not groups:
        message = f"freezing '{recipe.freezing.id()}' leaves nothing to train"
        raise ModelError(Problem(message, hint=ALL_OF_IT, key=("freezing",)))
    refuse_idle(groups, run.loaded, total)
    freeze_the_rest(model, groups)
    reserve = recipe.sharding.sharded and any(group.trains_in != ALWAYS for group in groups)
    in_optimizer = reserve or any(any(group.pulls) for group in groups)
    optimizer_class: Any = anchored(own.optimizer_class) if in_optimizer else own.optimizer_class
    return Update(
        groups=groups,
        optimizer=partial(optimizer_class, **own.options),
        optimizer_groups=lambda: optimizer_groups(model, groups, reserve=reserve),
        factor=schedule(run.loaded, total),
        regularizations=regularizations,
        features=freezing.features,
        export=freezing.export,
        initial_weights=InitialWeights.of(context) if recipe.evaluation.best is not None else None,
    )


def regularize(run: WithModel, context: RegularizerContext) -> list[Regularization]:
    """What the recipe's regularizers yield; they change the model's modules here."""
    strategies = run.loaded.recipe.regularizers
    regularizations = [built(strategy, context) for strategy in strategies]
    for strategy, regularization in zip(strategies, regularizations, strict=True):
        check_regularization(strategy, regularization, context.trained)
        if regularization.modify is not None:
            regularization.modify(run.model)
    return regularizations


def schedule(loaded: Loaded, total_steps: int) -> Factor:
    """The recipe's schedule for a run of so many updates; one that never trains is a `RecipeError`."""
    factor = factor_of(loaded, total_steps)
    check_factors(loaded.recipe.schedule, factor, total_steps)
    if not any(factor(step) for step in range(total_steps)):
        message = f"the schedule has a rate of 0 throughout, for {counted(total_steps, 'update')}"
        raise RecipeError(Problem(message, hint="set its warmup = 0", key=("schedule",)))
    return factor


def unfreeze(run: WithModel, context: RegularizerContext) -> tuple[FreezingPlan, RegularizerContext]:
    """What freezing decides, and the context completed with it: freezing may have added parameters."""
    from fttool.contracts.layers import layers

    model, recipe = run.model, run.loaded.recipe
    given = {id(p) for name, p in model.named_parameters() if name not in context.new}
    freezing = built(
        recipe.freezing,
        FreezingContext(
            model=model,
            layers=context.layers,
            total_steps=run.length.total_steps,
            steps_per_epoch=run.length.steps_per_epoch,
            new=context.new,
            track=run.watch.track,
            **run.loaded.common,
        ),
    )
    check_freezing_plan(recipe.freezing, freezing, [name for name, _ in model.named_parameters()])
    return freezing, replace(
        context,
        layers=layers(model),
        trained=frozenset(name for unit in freezing.units for name in unit.parameters),
        new=frozenset(name for name, p in model.named_parameters() if id(p) not in given),
    )


def refuse_idle(groups: Sequence[Group], loaded: Loaded, total_steps: int) -> None:
    """Raise where an update would have nothing to train; what trains changes only where a stretch begins or ends."""
    turns = {turn for group in groups for stretch in group.trains_in for turn in (stretch.start, stretch.stop)}
    for update in sorted({0, *turns} & set(range(total_steps))):
        if not any(group.trains(update) for group in groups):
            message = f"freezing '{loaded.recipe.freezing.id()}' leaves nothing to train in update {update + 1}"
            raise ModelError(Problem(message, hint=ALL_OF_IT, key=("freezing",)))


def note_idle(groups: Sequence[Group], loaded: Loaded, total_steps: int, new: set[str], watch: Watch) -> None:
    """Say how much of what freezing would train sometime never gets its turn, because the run is too short; and which
    parameters of `new`, which are randomly initialised, never learn.
    """
    idle = sum(group.count for group in groups if not group.trains_before(total_steps))
    if idle:
        of_all = f"{idle:,} of {sum(group.count for group in groups):,} parameters"
        watch.note(
            f"freezing '{loaded.recipe.freezing.id()}': {of_all} are never trained in {total_steps:,} updates, "
            "and stay as they are"
        )
    untrained = sorted(new.difference(*(group.names for group in groups if group.trains_before(total_steps))))
    if untrained:
        more = f" and {len(untrained) - 1} more" if len(untrained) > 1 else ""
        watch.note(f"{untrained[0]}{more}: randomly initialised, as the model's files lack it, and never trained")
