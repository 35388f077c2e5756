"""Find embeddings, layers and head of any transformers model, without a list of architectures.

A stack of layers is a `ModuleList` of what transformers can checkpoint by the layer; where nothing can be, one whose
members are all of one kind, and lists as long that lie beside it (XLM has one of attentions, one of norms …) are parts
of the same layers. What stands outside the base model, or is the output embedding, is the head; input embeddings are
what `get_input_embeddings` says, and what is called so. Used by freezing, layer rates and sharding, so that they agree
on what a layer is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Parameter names of a model, by where they stand. Every parameter is in exactly one part."""

    embeddings: tuple[str, ...]
    """Input embeddings and their norms, and whatever else comes before the first layer."""
    blocks: tuple[tuple[str, ...], ...]
    """One entry per layer, from the bottom up; empty where the model has no stack of layers. In an encoder-decoder the
    decoder's layers follow the encoder's, and what stands between the two belongs to the layer before it."""
    final: tuple[str, ...]
    """Norms between the last layer and the head."""
    head: tuple[str, ...]
    """The output projection or classifier; empty where it shares the input embeddings."""
    tied: bool
    """True where the head shares its weights with the input embeddings."""
    kinds: frozenset[str] = frozenset()
    """Names of the classes that the layers are of; of their parts, where a layer is not a module by itself."""
    transposed: frozenset[str] = frozenset()
    """Matrices that stand as inputs × outputs, as in GPT-2's `Conv1D`; all others stand as outputs × inputs."""


def layers(model: PreTrainedModel) -> Layers:
    """The parts of `model`; pure look-up, no weights are touched."""
    names = [name for name, _ in model.named_parameters()]
    stacks = _stacks(model)
    layers_of = [layer for stack in stacks for layer in stack]
    blocks = [[name for name in names if name.startswith(tuple(f"{part}." for part in layer))] for layer in layers_of]
    others: dict[str, list[str]] = {"embeddings": [], "final": [], "head": []}
    for name, part in list(_outside(model, names, blocks, _last_layers(stacks))):
        (blocks[part] if isinstance(part, int) else others[part]).append(name)
    return Layers(
        embeddings=tuple(others["embeddings"]),
        blocks=tuple(map(tuple, blocks)),
        final=tuple(others["final"]),
        head=tuple(others["head"]),
        tied=bool(_ids(model, "get_output_embeddings") & _ids(model, "get_input_embeddings")),
        kinds=frozenset(type(model.get_submodule(part)).__name__ for layer in layers_of for part in layer),
        transposed=_transposed(model),
    )


def _outside(
    model: PreTrainedModel, names: list[str], blocks: list[list[str]], last_of: dict[str, int]
) -> Iterator[tuple[str, Literal["embeddings", "final", "head"] | int]]:
    """Each parameter that stands in no layer, and the part that it belongs to; a number is that of a layer."""
    order = {name: place for place, name in enumerate(names)}
    inside = {name for block in blocks for name in block}
    ends = [max((order[name] for name in block), default=-1) for block in blocks]
    first = min((order[name] for name in inside), default=len(names))
    head_ids, embedding_ids = _ids(model, "get_output_embeddings"), _ids(model, "get_input_embeddings")
    base = f"{model.base_model_prefix}."
    has_base = any(name.startswith(base) for name in names)
    for name, parameter in model.named_parameters():
        if name in inside:
            continue
        if id(parameter) in embedding_ids:
            yield name, "embeddings"
        elif id(parameter) in head_ids or (has_base and not name.startswith(base)):
            yield name, "head"
        elif re.search(r"(^|[._])emb|(^|\.)w[tp]e\.", name):
            yield name, "embeddings"
        elif (place := _ended_by(name, last_of)) is not None:
            yield name, "final" if place == len(blocks) - 1 else place
        elif order[name] < first:
            yield name, "embeddings"
        elif order[name] < max(ends):
            yield name, max(place for place, end in enumerate(ends) if end < order[name])
        else:
            yield name, "final"


def _transposed(model: nn.Module) -> frozenset[str]:
    from transformers.pytorch_utils import Conv1D

    owners = {name for name, module in model.named_modules() if isinstance(module, Conv1D)}
    return frozenset(name for name, p in model.named_parameters() if p.ndim == 2 and name.rpartition(".")[0] in owners)


def _ids(model: Any, getter: str) -> set[int]:
    """Of the parameters of an embedding; none where a model has no such thing, or does not say what it is."""
    from torch import nn

    try:
        module = getattr(model, getter)()
    except NotImplementedError:  # Canine hashes characters
        return set()
    return {id(p) for p in module.parameters()} if isinstance(module, nn.Module) else set()


def _last_layers(stacks: list[list[list[str]]]) -> dict[str, int]:
    """The module that holds a stack → the place of the stack's last layer among all layers."""
    last: dict[str, int] = {}
    place = -1
    for stack in stacks:
        place += len(stack)
        last[stack[0][0].rpartition(".")[0].rpartition(".")[0]] = place
    return last


def _ended_by(name: str, last_of: dict[str, int]) -> int | None:
    """The place of the layer after which a final norm stands, wherever its class has written it down (OPT: before)."""
    owner, _, rest = name.rpartition(".final")
    return last_of.get(owner) if rest and "." in rest else None


def _stacks(model: nn.Module) -> list[list[list[str]]]:
    """Stacks that are not inside another one (one for most models, two for T5): the prefixes of each layer's parts."""
    from torch import nn
    from transformers.modeling_layers import GradientCheckpointingLayer

    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and any(True for _ in module.parameters()):
            inner = any(name.startswith(f"{outer}.") for outer in lists)  # experts in a layer, sub-layers of a T5 block
            if not inner:
                lists[name] = module
    checkpointed = {
        name: modules
        for name, modules in lists.items()
        if all(isinstance(layer, GradientCheckpointingLayer) for layer in modules)
    }
    if checkpointed:
        return [[[f"{name}.{index}"] for index in range(len(modules))] for name, modules in checkpointed.items()]
    alike = {name: modules for name, modules in lists.items() if len({type(layer) for layer in modules}) == 1}
    beside: dict[str, list[str]] = {}
    for name in alike:
        beside.setdefault(name.rpartition(".")[0], []).append(name)
    stacks: list[list[list[str]]] = []
    for names in beside.values():
        largest = max(names, key=lambda name: sum(p.numel() for p in alike[name].parameters()))
        parts = [name for name in names if len(alike[name]) == len(alike[largest])]
        stacks.append([[f"{name}.{index}" for name in parts] for index in range(len(alike[largest]))])
    return stacks
