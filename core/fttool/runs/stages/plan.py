"""The plan: how the run is spread over processes, by an estimate of the memory that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from fttool.contracts.model import ALWAYS
from fttool.contracts.sharding import Memory, ShardingContext, ShardingPlan
from fttool.errors import Problem, RecipeError
from fttool.machine import memory_bytes
from fttool.recipe.loaded import Loaded
from fttool.runs.stages.setup import extended
from fttool.runs.stages.update import WithUpdate
from fttool.training.update import Update
from fttool.world import World
from fttool.yielded import built


@dataclass(frozen=True, kw_only=True)
class WithPlan(WithUpdate):
    """A run that knows its processes."""

    plan: ShardingPlan
    """What the sharding strategy yields."""
    memory: Callable[[], Memory]
    """Estimates what one process would hold of it."""


def with_plan(run: WithUpdate) -> WithPlan:
    """Spread the run over processes as the recipe says."""
    memory = partial(estimated, run)
    context = ShardingContext(
        device=run.device,
        numerics=run.numerics,
        layer_classes=run.layer_classes,
        memory=memory,
        track=run.watch.track,
        **run.loaded.common,
    )
    plan = make_plan(run.loaded, run.update, context)
    if plan.reason:
        run.watch.note(f"sharding: {plan.reason}")
    return extended(run, WithPlan, plan=plan, memory=memory)


def estimated(run: WithUpdate) -> Memory:
    """The memory that the run takes, by the largest micro-batch of its first epoch."""
    from fttool.contracts.layers import layers
    from fttool.training.memory import estimate

    recipe = run.loaded.recipe
    launch, learned = recipe.sharding.launch, run.rows.learned
    tokens = run.batching.loader.largest(learned.lengths, at_once=recipe.run.micro_batch != "auto")
    labels = sum(part.label_tokens for part in learned.datasets)
    in_a_pass = -(-tokens * labels // sum(learned.lengths))
    return estimate(
        run.model,
        layers(run.model),
        optimizer=run.update.optimizer,
        groups=run.update.optimizer_groups(),
        tokens=tokens,
        learned=min(in_a_pass, places_at_once(run) or in_a_pass),
        recomputed=recipe.model.gradient_checkpointing,
        half=run.numerics.autocast != "no",
        regularizers=sum(regularization.memory for regularization in run.update.regularizations),
        device=memory_bytes(run.device, launch.processes // launch.nodes),
    )


def places_at_once(run: WithUpdate) -> int | None:
    """How many places have their logits held at once while the run learns; None where all have."""
    return None if at_once_because(run) else wanted_at_once(run)


def wanted_at_once(run: WithUpdate) -> int | None:
    """The same as the task would have it, whatever stands against it."""
    in_parts = run.parts.in_parts
    if in_parts is None:
        return None
    return in_parts.places(run.model, run.batching.loader.most_tokens(run.rows.learned.lengths))


def at_once_because(run: WithUpdate) -> str:
    """Why the logits of all places are needed together; empty where they are not."""
    if run.loaded.recipe.sharding.sharded:
        return "processes hold the weights in shares"
    if run.update.features is not None:
        return "features are kept"
    looks = any(each.loss is not None for each in run.update.regularizations)
    return "a regularizer looks at predictions" if looks else ""


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
    for index, regularization in enumerate(update.regularizations):
        if plan.weights_apart and regularization.after_update is not None:
            name = loaded.recipe.regularizers[index].id()
            message = f"{name} looks at the weights after each update, and this sharding keeps them apart then"
            hint = (
                "take one that leaves them in the model, sharded or not: `fttool plugins --family sharding` lists all"
            )
            raise RecipeError(Problem(message, hint=hint, key=("regularizers", index)))
