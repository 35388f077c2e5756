"""`ddp`: each process holds everything, and learns from its share of every update's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import RecipeError, ShardingContext, ShardingPlan, bytes_held
from fttool_plugins.sharding.several import SeveralProcesses

if TYPE_CHECKING:
    from transformers import Trainer


class DDP(SeveralProcesses):
    """Each of several processes holds the full model and all optimizer state; gradients are averaged (torch's
    DistributedDataParallel).

    An update takes the rows that it would take in one process, shared out; so the numbers are the same, up to the order
    of additions. Memory per process is that of `none`: with AdamW in fp32 16 bytes per parameter, before activations,
    and 4 more for the buckets in which gradients travel. Li et al. 2020 (arXiv 2006.15704).

    Use it where everything fits into each device and there are several: it is the fastest. Cost: one all-reduce of
    the gradients per update, which hides behind the backward pass; no memory is saved.
    """

    name: Literal["ddp"] = "ddp"
    bucket_mb: Annotated[int, Field(ge=1)] | None = None
    """Megabytes of gradients that are sent at once, while the rest of them is computed; default: torch's, 25."""

    @override
    def build(self, ctx: ShardingContext) -> ShardingPlan:
        arguments = {
            "ddp_backend": {"cuda": "nccl"}.get(ctx.device.type, "gloo"),
            "ddp_bucket_cap_mb": self.bucket_mb,
            "ddp_timeout": self.timeout,
            # It must look for weights without a gradient in each update where others may be without one in the next.
            "ddp_find_unused_parameters": ctx.varies,
        }
        return ShardingPlan(processes=self.processes, arguments=arguments, prove=self._prove)

    def _prove(self, trainer: Trainer) -> Mapping[str, int]:
        from torch.nn.parallel import DistributedDataParallel

        if self.processes > 1 and not isinstance(trainer.model_wrapped, DistributedDataParallel):
            kind = type(trainer.model_wrapped).__name__
            hint = 'tell fttool\'s authors what launched the run; sharding = "none" needs no launcher'
            raise RecipeError(f"sharding 'ddp' is not on: the model is in a {kind}", hint=hint)
        return bytes_held(trainer)
