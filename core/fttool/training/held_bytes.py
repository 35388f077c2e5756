"""What a process of a run holds, counted and not estimated: the proof that a sharding is on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer


def bytes_held(trainer: Trainer) -> Mapping[str, int]:
    """Bytes of parameters, gradients and optimizer state in this process.

    Gradients are freed after each update; they are counted as a trained parameter's own size.
    """
    import torch

    model: Any = trainer.model
    optimizer: Any = trainer.optimizer
    parameters = list(model.parameters())
    state = [value for held in optimizer.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    return {
        "parameter_bytes": bytes_of(parameters),
        "gradient_bytes": bytes_of(p for p in parameters if p.requires_grad),
        "optimizer_bytes": bytes_of(state),
    }


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of all of them; of a sharded one, this process's shard."""
    from fttool.training.shards import local_shard

    return sum(held.numel() * held.element_size() for held in map(local_shard, tensors))
