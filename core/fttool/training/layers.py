"""Find embeddings, layers and head of any transformers model, without a list of architectures.

The stack of layers is the `ModuleList` with the most parameters whose members are all of one kind; what stands outside
the base model, or is the output embedding, is the head; input embeddings are what `get_input_embeddings` says. Used by
freezing, layer rates and sharding, so that they agree on what a layer is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Parameter names of a model, by where they stand. Every parameter is in exactly one part."""

    embeddings: tuple[str, ...]
    """Input embeddings, and whatever else comes before the first layer."""
    blocks: tuple[tuple[str, ...], ...]
    """One entry per layer, from the bottom up; empty where the model has no stack of layers. In an encoder-decoder the
    decoder's layers follow the encoder's, and what stands between the two belongs to the layer before it."""
    final: tuple[str, ...]
    """Norms between the last layer and the head."""
    head: tuple[str, ...]
    """The output projection or classifier; empty where it shares the input embeddings."""
    tied: bool
    """True where the head shares its weights with the input embeddings."""


def layers(model: PreTrainedModel) -> Layers:
    """The parts of `model`; pure look-up, no weights are touched."""
    names = [name for name, _ in model.named_parameters()]
    stacks = _stacks(model)
    order = {name: place for place, name in enumerate(names)}
    blocks = [[name for name in names if name.startswith(f"{prefix}.")] for stack in stacks for prefix in stack]
    inside = {name for block in blocks for name in block}
    ends = [max((order[name] for name in block), default=-1) for block in blocks]
    first = min((order[name] for name in inside), default=len(names))

    head_module: Any = model.get_output_embeddings()
    head_ids = {id(p) for p in head_module.parameters()} if head_module is not None else set[int]()
    embedding: Any = model.get_input_embeddings()
    embedding_ids = {id(p) for p in embedding.parameters()} if embedding is not None else set[int]()
    tied = bool(head_ids & embedding_ids)

    base = f"{model.base_model_prefix}."
    has_base = any(name.startswith(base) for name in names)
    by_name = dict(model.named_parameters())
    embeddings: list[str] = []
    final: list[str] = []
    head: list[str] = []
    for name in names:
        if name in inside:
            continue
        if id(by_name[name]) in embedding_ids:
            embeddings.append(name)
        elif id(by_name[name]) in head_ids or (has_base and not name.startswith(base)):
            head.append(name)
        elif order[name] < first:
            embeddings.append(name)
        elif order[name] < max(ends):
            blocks[max(place for place, end in enumerate(ends) if end < order[name])].append(name)
        else:
            final.append(name)
    return Layers(
        embeddings=tuple(embeddings),
        blocks=tuple(map(tuple, blocks)),
        final=tuple(final),
        head=tuple(head),
        tied=tied,
    )


def _stacks(model: nn.Module) -> list[list[str]]:
    """Prefixes of the layers of each stack that is not inside another one: one stack for most models, two for T5."""
    from torch import nn

    found: list[tuple[str, list[str]]] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or len(module) == 0:
            continue
        if any(name.startswith(f"{outer}.") for outer, _ in found):
            continue  # experts inside a layer, sub-layers of a T5 block
        kinds = {type(child) for child in module}
        if len(kinds) == 1 and any(True for _ in module.parameters()):
            found.append((name, [f"{name}.{index}" for index in range(len(module))]))
    return [prefixes for _, prefixes in found]
