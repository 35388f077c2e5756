"""`none`: one process holds everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fttool.api import Sharding, ShardingContext, ShardingPlan

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer


class Unsharded(Sharding):
    """One process holds all parameters, gradients and optimizer state.

    With AdamW in fp32 that is 16 bytes per parameter, before activations.
    """

    name: Literal["none"] = "none"

    def build(self, ctx: ShardingContext) -> ShardingPlan:
        """Yield a plan of one process."""
        return ShardingPlan(processes=1, prove=held_bytes)


def held_bytes(trainer: Trainer) -> Sequence[Mapping[str, int]]:
    """Bytes of parameters, gradients and optimizer state that the one rank holds."""
    import torch

    def size(tensors: Sequence[Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    model: Any = trainer.model
    optimizer: Any = trainer.optimizer
    parameters = list(model.parameters())
    state = [value for held in optimizer.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    # Gradients are freed after each update; a trained parameter's gradient has its own size.
    return [
        {
            "parameter_bytes": size(parameters),
            "gradient_bytes": size([p for p in parameters if p.requires_grad]),
            "optimizer_bytes": size(state),
        }
    ]
