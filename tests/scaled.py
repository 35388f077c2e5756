"""fp16 with a real loss scaler, on a CPU: torch has one for it, and autocast; accelerate makes none there.

Run as a program, `python scaled.py FOLDER`, it is one process of a run of every recipe in the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fttool.api import (
    Numerics,
    Optimizer,
    OptimizerContext,
    OptimizerParts,
    Precision,
    PrecisionContext,
    Regularization,
    Regularizer,
    RegularizerContext,
    hookimpl,
)
from fttool.errors import DivergedError
from fttool.plugins import Plugins
from fttool.training.shards import local_shard
from fttool.training.trainer import Loop


class HalfOnCpu(Precision):
    """fp16 with loss scaling, as on a GPU; the first scale is that of torch."""

    name: Literal["acme.half"] = "acme.half"
    scale: ClassVar[float] = 2.0**16

    def build(self, ctx: PrecisionContext) -> Numerics:
        """Yield fp16."""
        return Numerics(autocast="fp16", reason="a test of loss scaling")


class Overflow(Regularizer):
    """Makes the scaled gradients of some updates infinite, in the process of a rank or in each of them.

    By a loss whose gradient is 1e36, which is too much for float32 times a scale of 1,024 and up.
    """

    name: Literal["acme.overflow"] = "acme.overflow"
    updates: tuple[int, ...] = ()
    pieces: int = 1
    """Micro-batches of an update, in each process."""
    rank: int | None = None
    endless: bool = False
    """True: infinite without a scale too."""
    of_logits: bool = False
    """True: by the sum of what the model says, not of its weights; ZeRO 3 has no whole ones outside of the model."""

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the loss."""
        import os

        here = self.rank is None or self.rank == int(os.environ.get("RANK", 0))
        said: list[Tensor] = []
        if self.of_logits:
            head: Any = ctx.model.get_output_embeddings()
            head.register_forward_hook(lambda _, __, output: said.__setitem__(slice(None), [output]))
        return Regularization(
            loss=Planted(self.updates if here else (), self.pieces, float("inf") if self.endless else 1e36, said)
        )


class Planted:
    """The loss, which counts how often it was asked for; saved with checkpoints."""

    def __init__(self, updates: tuple[int, ...], pieces: int, gradient: float, said: Sequence[Tensor]) -> None:
        self.updates, self.pieces, self.gradient, self.said, self.calls = updates, pieces, gradient, said, 0

    def __call__(self, model: Any, *_: Any) -> Tensor:
        """The sum of all weights of this process that train, or of its logits, times nothing or very much."""
        self.calls += 1
        update = -(-self.calls // self.pieces)
        some = self.said or [local_shard(p) for p in model.parameters() if p.requires_grad]
        total = torch.stack([one.float().sum() for one in some]).sum()
        return total * (self.gradient if update in self.updates else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """How often it was asked."""
        return {"calls": self.calls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting."""
        self.calls = state["calls"]


class FusedByOthers(torch.optim.AdamW):
    """A third party's optimizer, which says that it can do with scaled gradients, as torch's fused ones do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, fused=True)
        assert self._step_supports_amp_scaling


class Plain(Optimizer):
    """torch's AdamW without a fused step, or a third party's fused one."""

    name: Literal["acme.plain"] = "acme.plain"
    fused: bool = False

    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield the class."""
        return OptimizerParts(optimizer_class=FusedByOthers if self.fused else torch.optim.AdamW, options={})


class Poisoned(torch.optim.SGD):
    """A step that leaves one number of one tensor as it should not be, in one update, in the process of one rank."""

    def __init__(self, *args: Any, value: float, update: int, rank: int, **options: Any) -> None:
        super().__init__(*args, **options, momentum=0.9)  # without state torch would take a step more to save it
        self.value, self.update, self.rank, self.made = value, update, rank, 0

    def step(self, closure: Any = None) -> Any:
        """SGD's, and one number more."""
        import os

        found = super().step(closure)
        self.made += 1
        if self.made == self.update and int(os.environ.get("RANK", 0)) == self.rank:
            with torch.no_grad():
                local_shard(self.param_groups[-1]["params"][-1]).view(-1)[0] = self.value
        return found


class Poison(Optimizer):
    """An optimizer whose step overflows in a last update, after its loss and gradient were looked at."""

    name: Literal["acme.poison"] = "acme.poison"
    value: Literal["nan", "inf", "-inf"] = "nan"
    update: int = 1
    rank: int = 0

    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield the class."""
        options = {"value": float(self.value), "update": self.update, "rank": self.rank}
        return OptimizerParts(optimizer_class=Poisoned, options=options)


class Infinite(Regularizer):
    """Makes a final weight infinite."""

    name: Literal["acme.infinite"] = "acme.infinite"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the change."""

        def change(weights: Iterable[tuple[str, Tensor]]) -> None:
            with torch.no_grad():
                for _, p in weights:
                    p.view(-1)[-1] = float("inf")

        return Regularization(final_weights=change)


STRATEGIES = (HalfOnCpu, Overflow, Plain, Poison, Infinite)
ACME = Plugins.of(
    acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: list(STRATEGIES), specname="fttool_strategies"))
)


def with_scaler() -> Any:
    """Of `Loop`, `create_accelerator_and_postprocess` that gives accelerate the scaler and autocast that GPUs have.

    DeepSpeed has a scaler of its own, and asks the device whether it computes in fp16: this one does, slowly.
    """
    untouched = Loop.create_accelerator_and_postprocess

    @wraps(untouched)
    def create(self: Any) -> None:
        untouched(self)
        if self.is_deepspeed_enabled:
            from deepspeed.accelerator import get_accelerator

            kind: Any = type(get_accelerator())
            kind.is_fp16_supported = lambda _: True
        elif self.args.fp16:
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=HalfOnCpu.scale)
            self.accelerator.native_amp = True

    return create


def main(folder: Path) -> None:
    """Run the recipes, as one process of several."""
    from fttool.launch.worker import leave
    from fttool.recipe.reading import load
    from fttool.runs.run import run
    from fttool.watch.screen import Screen

    Loop.create_accelerator_and_postprocess = with_scaler()  # type: ignore[method-assign]
    for file in sorted(folder.glob("*.toml")):
        with suppress(DivergedError):  # the summary says so
            run(load(file, plugins=ACME), Screen())
    leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
