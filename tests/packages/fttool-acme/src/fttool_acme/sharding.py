"""`acme.one-of-many`: one process that leaves room for others on its machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fttool.api import Sharding, ShardingContext, ShardingPlan

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer


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
        return ShardingPlan(processes=1, prove=held)


def held(trainer: Trainer) -> Sequence[Mapping[str, int]]:
    """Bytes of parameters, gradients and optimizer state of the one process."""
    import torch

    def size(tensors: Sequence[Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    model: Any = trainer.model
    optimizer: Any = trainer.optimizer
    parameters = list(model.parameters())
    state = [one for held in optimizer.state.values() for one in held.values() if isinstance(one, torch.Tensor)]
    return [
        {
            "parameter_bytes": size(parameters),
            "gradient_bytes": size([p for p in parameters if p.requires_grad]),
            "optimizer_bytes": size(state),
        }
    ]
