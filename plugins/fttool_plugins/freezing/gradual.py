"""`gradual`: layers join one after the other (ULMFiT: Howard & Ruder 2018, arXiv 1801.06146).

Stage 0 is the final norm, the head and the first `start` layers; stage k = 1, 2 … adds the next `layers_per_step`
layers, and begins at update k·E, where E is the number of updates between two stages (`every`). With `order =
"top-down"` the layer nearest to the output is first. ULMFiT: E is an epoch, one layer a stage, the head alone at first,
the embeddings as the last stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import (
    Freezing,
    FreezingContext,
    FreezingPlan,
    ModelError,
    PositiveShareOrSteps,
    Problem,
    TrainableUnit,
    from_update,
    to_steps,
)
from fttool_plugins.freezing.stack import refuse_more_than, stack

if TYPE_CHECKING:
    from fttool.api import Recipe

STAGES = "set every = 0.1: a stage each tenth of the run"


def stages(layers: Sequence[int], *, start: int, each: int) -> list[Sequence[int]]:
    """Layers in their order of unfreezing, cut in stages: `start` of them, then `each` at a time."""
    return [layers[:start], *(layers[first : first + each] for first in range(start, len(layers), each))]


class Gradual(Freezing):
    """Layers unfreeze one after the other, from the top down: first the head alone, then one layer more each epoch.

    What is frozen costs no backward pass, so from the top down the first updates are the cheapest. A layer that joins
    does so at the schedule's present rate, with fresh optimizer state. `fttool run --dry-run` shows when each joins; a
    run that ends before the last ones do says so, and leaves them as they were.

    A head that shares the input embeddings unfreezes with them; the top layer then trains from the start in its place.

    Use it to train a new head before it can disturb what is below, above all with few rows. Cost: rises from that
    of the head to that of `full`; memory is that of `full` in the end.
    """

    name: Literal["gradual"] = "gradual"
    every: Literal["epoch"] | PositiveShareOrSteps = "epoch"
    """How long a stage lasts: `"epoch"`, a share of the run below 1, or updates from 1 on."""
    start: Annotated[int, Field(ge=0)] | None = None
    """Layers that train from the first update on; default: none, or one where the head shares the embeddings."""
    layers_per_step: Annotated[int, Field(ge=1)] = 1
    """Layers that join at each stage."""
    order: Literal["top-down", "bottom-up"] = "top-down"
    """Which layers are first: the ones near the output, or the ones near the input."""
    embeddings: Literal["first", "last", "never"] | None = None
    """When the input embeddings unfreeze: at the start, one stage after the last layers, or not at all.
    Default: where they stand in the order, so last from the top down and first from the bottom up."""

    @property
    @override
    def extendable(self) -> bool:
        """False where stages are a share of the run."""
        return self.every == "epoch" or self.every >= 1

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse a stage as long as the run, or an epoch in a run of one: nothing would ever unfreeze."""
        if self.every == "epoch" and recipe.run.max_steps is None and (recipe.run.epochs or 1) == 1:
            message = "gradual unfreezes a layer after each epoch, and this run has one epoch"
            yield Problem(message, key=("freezing",), hint=STAGES)
        total = recipe.run.max_steps
        if self.every != "epoch" and total is not None and to_steps(self.every, total) >= max(total, 2):
            message = f"a stage lasts {to_steps(self.every, total)} updates, and run.max_steps is {total}: none follows"
            yield Problem(message, key=("freezing", "every"), hint=STAGES)

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit a stage; raises `ModelError` where the model's layers cannot be unfrozen like this."""
        blocks = stack(ctx, self.name)
        embeddings = self.embeddings or ("last" if self.order == "top-down" else "first")
        start = self._start(ctx, embeddings)
        layers = range(len(blocks)) if self.order == "bottom-up" else range(len(blocks))[::-1]
        groups = [
            {name for layer in stage for name in blocks[layer]}
            for stage in stages(layers, start=start, each=self.layers_per_step)
        ]
        groups[0].update(ctx.layers.final, ctx.layers.head)
        if embeddings == "first":
            groups[0].update(ctx.layers.embeddings)
        elif embeddings == "last":
            groups.append(set(ctx.layers.embeddings))
        lasts = ctx.steps_per_epoch if self.every == "epoch" else to_steps(self.every, ctx.total_steps)
        return FreezingPlan(
            units=[
                TrainableUnit(parameters=frozenset(names), trains_in=from_update(stage * lasts))
                for stage, names in enumerate(groups)
            ]
        )

    def _start(self, ctx: FreezingContext, embeddings: str) -> int:
        """Layers of the first stage: something beside a norm must train in it."""
        has_head = bool(ctx.layers.head) or (ctx.layers.tied and embeddings == "first")
        start = self.start if self.start is not None else 0 if has_head else 1
        refuse_more_than(ctx, "start", start)
        if start == 0 and not has_head:
            kind = type(ctx.model).__name__
            tied = f"the head of {kind} shares its weights with the input embeddings"
            why = tied if ctx.layers.tied else f"{kind} has no head"
            message = f"freezing.start is 0, but {why}: at first only a norm would train"
            raise ModelError(Problem(message, key=("freezing", "start"), hint="set start = 1 or more"))
        return start
