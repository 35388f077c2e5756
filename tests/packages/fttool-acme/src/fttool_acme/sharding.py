"""`acme.one-of-many`: one process that leaves room for others on its machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fttool.api import Sharding, ShardingContext, ShardingPlan, bytes_held


class OneOfMany(Sharding):
    """One process that holds everything, within bounds: for a machine on which several runs share CPU and GPU.

    A run that wants more than its share of the GPU's memory ends with "out of memory", and does not end its neighbour.
    """

    name: Literal["acme.one-of-many"] = "acme.one-of-many"
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads that a computation may use; default: torch's, all cores."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the GPU's memory that the process may take."""

    def build(self, ctx: ShardingContext) -> ShardingPlan:
        """Set the bounds, and yield a plan of one process."""
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if ctx.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(self.gpu_memory, ctx.device)
        return ShardingPlan(processes=1, prove=bytes_held)
