"""What a process of a run would hold, before anything is computed: an estimate, from the model and its rows alone.

Weights and gradients are counted; the optimizer's state is what it keeps of a square matrix. Activations are those of a
common transformer, without attention scores, by the formula of Korthikanti et al. 2022 (arXiv 2205.05198): so many
numbers per token, layer and hidden dimension, or the inputs of the layers and one full layer where they are computed
again. What regularizers say that they hold is added. Not counted: what
others of them keep beside the optimizer (an average, mixed weights), what the allocator cannot
use, and the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fttool.contracts.sharding import Memory
from fttool.training.held_bytes import bytes_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.contracts.layers import Layers

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
    regularizers: int = 0,
    device: int,
) -> Memory:
    """Bytes of one process without sharding.

    `optimizer` makes one over `groups`, which are those of the run; a micro-batch has `tokens` slots, `learned` of them
    reach the head; `recomputed` activations are not kept; `half`: it is computed in 16 bits; `regularizers` hold
    that many bytes of their own; there are `device` bytes.
    """
    by_name = dict(model.named_parameters())
    trained = [p for p in by_name.values() if p.requires_grad]

    def gathered(names: Iterable[str]) -> int:
        return sum(p.numel() * (2 if half else p.element_size()) for p in map(by_name.__getitem__, names))

    # Where activations are computed again, transformers gives what comes out of the embeddings a gradient in any case.
    way = layers.blocks if recomputed and trained else _way_back(by_name, layers)
    used = (*way, layers.final, layers.head, layers.embeddings if layers.tied else ())
    casts = [name for part in used for name in part if by_name[name].element_size() > 2]
    in_layers = [gathered(block) for block in layers.blocks]
    full = gathered(by_name)
    return Memory(
        weights=bytes_of(by_name.values()),
        gathered=full,
        copies=gathered(casts) if half else 0,
        gradients=bytes_of(trained),
        optimizer=sum(state_bytes(optimizer, group) for group in groups),
        unit=max([full - sum(in_layers), *in_layers]),
        activations=_activations(model, len(way), tokens, recomputed, half) + PER_LOGIT * learned * _outputs(model),
        regularizers=regularizers,
        device=device,
    )


def state_bytes(optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer], group: Mapping[str, Any]) -> int:
    """What an optimizer keeps of a group of parameters, found by one step on a small matrix."""
    import torch

    params: list[Tensor] = group["params"]
    toy = torch.nn.Parameter(torch.zeros(SIDE, SIDE, dtype=params[0].dtype))
    toy.grad = torch.ones_like(toy)
    toy_optimizer = optimizer([{**group, "params": [toy]}])
    toy_optimizer.step()
    size = bytes_of(
        value for value in toy_optimizer.state[toy].values() if isinstance(value, torch.Tensor) and value.ndim
    )
    return size * sum(p.numel() for p in params) // toy.numel()


def _way_back(by_name: Mapping[str, Tensor], layers: Layers) -> Sequence[Sequence[str]]:
    """The layers through which a backward pass goes: from the first that trains on, or all where embeddings do."""
    if any(by_name[name].requires_grad for name in layers.embeddings):
        return layers.blocks
    trains = [any(by_name[name].requires_grad for name in block) for block in layers.blocks]
    return layers.blocks[trains.index(True) :] if any(trains) else ()


def _activations(model: PreTrainedModel, depth: int, tokens: int, recomputed: bool, half: bool) -> int:
    """What `depth` layers keep."""
    of_a_vector = tokens * _hidden(model) * (2 if half or next(model.parameters()).element_size() == 2 else 4)
    if recomputed:
        return (depth + PER_LAYER) * of_a_vector if depth else 0
    return depth * PER_LAYER * of_a_vector


def _hidden(model: PreTrainedModel) -> int:
    own: int | None = getattr(model.config.get_text_config(), "hidden_size", None)
    return own or cast("Any", model.get_input_embeddings()).weight.shape[-1]


def _outputs(model: PreTrainedModel) -> int:
    """Numbers that the head gives: one per token of the vocabulary, or per class."""
    head: Any = model.get_output_embeddings()
    return cast("Any", model.config).num_labels if head is None else head.weight.shape[0]
