"""Linear layers that compute with a mixture of their weight and the one before training.

A layer changes its class and nothing else, so its parameters keep their names and a saved model is the plain one. The
weight before training is a buffer that is not saved: a resumed run takes it from the model's source, as the first did.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


def mixed(weight: Tensor, start: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """u + m(w − u)/(1 − p) with one m for all that `shape` broadcasts over; autograd gives its gradient m/(1 − p).

    In the weight's format: engines that shard hand out 16-bit copies, and u is rounded as they are, so that a weight
    that has not moved is u.
    """
    keep = torch.empty(shape, dtype=weight.dtype, device=weight.device).bernoulli_(1 - p)
    return torch.lerp(start.to(weight.dtype), weight, keep.div_(1 - p))


class MixoutLinear(nn.Linear):
    """`nn.Linear` with weights (outputs, inputs)."""

    mixout_p: float
    mixout_start: Tensor
    mixout_shape: tuple[int, ...]

    def forward(self, input: Tensor) -> Tensor:
        """Mixed while training, the weight itself in evaluation."""
        if not self.training:
            return super().forward(input)
        return F.linear(input, mixed(self.weight, self.mixout_start, self.mixout_p, self.mixout_shape), self.bias)


class MixoutConv1D(Conv1D):
    """GPT-2's layer, with weights (inputs, outputs)."""

    mixout_p: float
    mixout_start: Tensor
    mixout_shape: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """Mixed while training, the weight itself in evaluation."""
        if not self.training:
            return super().forward(x)
        weight = mixed(self.weight, self.mixout_start, self.mixout_p, self.mixout_shape)
        return F.linear(x, weight.T, self.bias)


MIXED: dict[type[nn.Module], tuple[type[nn.Module], int]] = {nn.Linear: (MixoutLinear, 0), Conv1D: (MixoutConv1D, 1)}
"""What a layer becomes, and the dimension of its weight that counts the outputs."""


def linear_weights(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers by the name of their weight; of a weight that several share, the name that the model lists."""
    return {f"{name}.weight": module for name, module in model.named_modules() if type(module) in MIXED}


def mix(module: Any, p: float, *, per_weight: bool) -> None:
    """Make a linear layer mix its weight with what it is now, a mask per input neuron or per weight."""
    kind, outputs = MIXED[type(module)]
    shape = list(module.weight.shape)
    if not per_weight:
        shape[outputs] = 1
    module.register_buffer("mixout_start", module.weight.detach().clone(), persistent=False)
    module.__class__ = kind
    module.mixout_p, module.mixout_shape = p, tuple(shape)
