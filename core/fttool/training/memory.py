"""What a process of a run would hold, before anything is computed: an estimate, from the model and its rows alone.

Weights, gradients and optimizer state are counted exactly. Activations are those of a common transformer, without
attention scores, by the formula of Korthikanti et al. 2022 (arXiv 2205.05198): so many numbers per token, layer and
hidden dimension, or the inputs of the layers and one whole layer where they are computed again. Not counted: what
regularizers keep beside the optimizer (an average, mixed weights), what the allocator cannot use, and the libraries
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fttool.families import Memory
from fttool.training.held import bytes_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.training.layers import Layers

PER_LAYER = 21
"""Numbers that a layer keeps for its backward pass, per token and hidden dimension: counted on a Llama, whose MLP has a
gate; Korthikanti et al. find 17 for a GPT."""
PER_LOGIT = 12
"""Bytes: the logit in float32, its logarithm of the softmax, and its gradient."""
SIDE = 32
"""Of the matrix on which an optimizer shows what it keeps."""


def estimate(
    model: PreTrainedModel,
    layers: Layers,
    *,
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    groups: Sequence[Mapping[str, Any]],
    tokens: int,
    learned: int,
    recomputed: bool,
    half: bool,
    device: int,
) -> Memory:
    """Bytes of one process without sharding.

    `optimizer` makes one over `groups`, which are those of the run; a micro-batch has `tokens` slots, `learned` of them
    reach the head; `recomputed` activations are not kept; `half`: it is computed in 16 bits; there are `device` bytes.
    """
    by_name = dict(model.named_parameters())
    trained = [p for p in by_name.values() if p.requires_grad]
    inside = [bytes_of(by_name[name] for name in block) for block in layers.blocks]
    weights = bytes_of(by_name.values())
    return Memory(
        weights=weights,
        copies=2 * sum(p.numel() for p in trained if p.element_size() > 2) if half else 0,
        gradients=bytes_of(trained),
        optimizer=sum(state_bytes(optimizer, group) for group in groups),
        unit=max([weights - sum(inside), *inside]) // (2 if half and trained[0].element_size() > 2 else 1),
        activations=_activations(model, layers, tokens, recomputed, half) + PER_LOGIT * learned * _outputs(model),
        device=device,
    )


def state_bytes(optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer], group: Mapping[str, Any]) -> int:
    """What an optimizer keeps of a group of parameters, found by one step on a small matrix."""
    import torch

    params: list[Tensor] = group["params"]
    toy = torch.nn.Parameter(torch.zeros(SIDE, SIDE, dtype=params[0].dtype))
    toy.grad = torch.ones_like(toy)
    made = optimizer([{**group, "params": [toy]}])
    made.step()
    kept = bytes_of(value for value in made.state[toy].values() if isinstance(value, torch.Tensor) and value.ndim)
    return kept * sum(p.numel() for p in params) // toy.numel()


def _activations(model: PreTrainedModel, layers: Layers, tokens: int, recomputed: bool, half: bool) -> int:
    """Of the layers from the first that trains on: below it nothing goes back."""
    by_name = dict(model.named_parameters())
    deepest = next((at for at, block in enumerate(layers.blocks) if _trains(by_name, block)), len(layers.blocks))
    kept = len(layers.blocks) - (0 if _trains(by_name, layers.embeddings) else deepest)
    of_a_vector = tokens * _hidden(model) * (2 if half or next(model.parameters()).element_size() == 2 else 4)
    if recomputed:
        return (kept + PER_LAYER) * of_a_vector if kept else 0
    return kept * PER_LAYER * of_a_vector


def _trains(by_name: Mapping[str, Tensor], names: Iterable[str]) -> bool:
    return any(by_name[name].requires_grad for name in names)


def _hidden(model: PreTrainedModel) -> int:
    own: int | None = getattr(model.config.get_text_config(), "hidden_size", None)
    return own or cast("Any", model.get_input_embeddings()).weight.shape[-1]


def _outputs(model: PreTrainedModel) -> int:
    """Numbers that the head gives: one per token of the vocabulary, or per class."""
    head: Any = model.get_output_embeddings()
    return cast("Any", model.config).num_labels if head is None else head.weight.shape[0]
