"""`auto`: the least sharding that fits, by an estimate of what the run holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, RecipeError, ShardingContext, ShardingPlan
from fttool_plugins.sharding.ddp import DDP
from fttool_plugins.sharding.fsdp import FSDP, refuse_16_bits
from fttool_plugins.sharding.none import Unsharded
from fttool_plugins.sharding.several import SeveralProcesses

if TYPE_CHECKING:
    from fttool.api import Memory, Recipe, Sharding

GIB, MIB = 2**30, 2**20
USABLE = 0.9
"""Of a device's memory: the rest is the libraries' own, and what an allocator cannot use."""


class Auto(SeveralProcesses):
    """The least sharding that fits into memory: `ddp`, else `fsdp` that keeps weights gathered while it computes, else
    `fsdp`, else `fsdp` with offload to the machine's memory. One process is never sharded.

    What the run holds is estimated from the model, the optimizer and the largest micro-batch, and must leave a tenth of
    each device free; the log and `summary.json` say what was chosen and why, and so does `fttool run --dry-run`. A
    resumed run must come to the same choice.

    Use it to begin with, or in a recipe for several machines. Cost: none, unless the estimate is wrong: activations are
    those of a common transformer; `fttool probe` measures.
    """

    name: Literal["auto"] = "auto"
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Gigabytes (2^30 bytes) of each process's device; default: what it has. To ask a dry run about another machine."""

    @property
    @override
    def sharded(self) -> bool:
        """It may be, where there are several processes."""
        return self.processes > 1

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """What it may choose must be able to run the recipe."""
        yield from super().check(recipe)
        if self.processes > 1:
            yield from refuse_16_bits(recipe)

    @override
    def build(self, ctx: ShardingContext) -> ShardingPlan:
        if ctx.memory is None:
            hint = "fttool run --dry-run says what it would be (of which GPUs: sharding.memory_gb); name that one here"
            raise RecipeError("sharding 'auto' is decided when the model is loaded", hint=hint)
        memory = ctx.memory()
        there = memory.device if self.memory_gb is None else self.memory_gb * GIB
        choices = self._choices(memory)
        fits = (place for place, choice in enumerate(choices) if choice.needed <= USABLE * there)
        place = next(fits, None)
        chosen = choices[-1 if place is None else place]
        reason = f"{chosen.label}, {chosen.needed / MIB:,.0f} of {there / MIB:,.0f} MiB in each process by estimate"
        if place is None:
            reason += ", and nothing takes less: it may not fit"
        elif place:
            less = choices[place - 1]
            reason += f"; {less.label} would take {less.needed / MIB:,.0f}"
        return replace(chosen.strategy.build(ctx), reason=reason)

    def _choices(self, memory: Memory) -> list[_Choice]:
        """From the fastest on."""
        if self.processes == 1:
            return [_Choice("none", Unsharded(), memory.total)]
        options = self.model_dump(exclude={"name", "memory_gb"})
        state = memory.weights + memory.gradients + memory.optimizer
        always = memory.activations + memory.regularizers
        share, layers = state / self.processes + always, 2 * memory.unit
        return [
            _Choice("ddp", DDP(**options), memory.total + memory.gradients),
            _Choice(
                "fsdp (reshard_after_forward = false)",
                FSDP(**options, reshard_after_forward=False),
                share + memory.gathered,
            ),
            _Choice("fsdp", FSDP(**options), share + layers),
            _Choice("fsdp (cpu_offload = true)", FSDP(**options, cpu_offload=True), always + layers),
        ]


class _Choice(NamedTuple):
    label: str
    strategy: Sharding
    needed: float
    """Bytes of each process's device."""
