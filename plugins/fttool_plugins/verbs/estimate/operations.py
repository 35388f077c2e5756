"""Operations of a model's passes, counted from its matrices: per slot, per place that reaches the head, per attention.

A matrix of n numbers costs 2·n operations for each vector that goes through it, once more for the gradient of what
goes in, and once more for its own where it trains. Attention costs 4·heads·width for each pair of places, and twice
that on the way back. This is what is counted where one speaks of a model's FLOPs: causal attention in full, and no
kernel's recomputation (torch's own counter, `torch.utils.flop_counter`, says the same; a test holds the two together).

Of a mixture of experts those count that a token is sent to. A recurrent layer counts by its matrices and convolutions
alone: what its scan costs depends on the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool.api import layers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""What configurations call the number of experts of a layer …"""
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
"""… and how many of them a token is sent to."""
RECURRENT = re.compile(r"mamba|mixer|ssm|rwkv|retention|deltanet|linearattention|rglru|recurrent|conv", re.I)
"""Modules that mix places without comparing each with each."""
LEAVES = re.compile(r"(^|[._])(o|out|c|down)_?(proj|lin)?$|(^|\.)(dense|wo|w2|fc2|fc_out|lin2|dense_4h_to_h)$", re.I)
"""A matrix at the end of an attention or an MLP: something of the same layer has come before it."""
CROSS = re.compile(r"encoder_attn|crossattention|cross_attn|EncDecAttention|encoder_layer_norm")
"""What a decoder has for an encoder's output; without an encoder it is passed over."""
ALL_EXPERTS = frozenset({"Llama4TextExperts"})
"""Experts that transformers sends every token to, weighted by 0 where they were not chosen."""
FIRST_NORM = re.compile(r"input_layernorm|ln_1|ln_attn|norm1|pre_norm|attn_norm|attention_norm|operator_norm", re.I)
"""A norm before the first matrix of a layer …"""
LAST_NORM = re.compile(r"post_feedforward|post_mlp|post_ffn|post_ff_|sandwich", re.I)
"""… and after the last."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of a pass, by what they grow with."""

    slot: float = 0.0
    """Per token or padding that goes through the layers."""
    place: float = 0.0
    """Per place that goes through the head: a learned token, or a row where rows have classes."""
    pair: float = 0.0
    """Per two places of a sequence that attention compares."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.slot + other.slot, self.place + other.place, self.pair + other.pair)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.slot * times, self.place * times, self.pair * times)

    def of(self, slots: float, places: float, pairs: float) -> float:
        """Operations for so many of each."""
        return self.slot * slots + self.place * places + self.pair * pairs


@dataclass(frozen=True, slots=True)
class Matrix:
    """Numbers that a vector is multiplied with on its way through a model."""

    name: str
    block: int
    """Which layer it is in; −1 below the first, their number above the last."""
    numbers: float
    """Of which a vector meets so many: of several experts, those that it is sent to."""
    parameter: int
    """`id` of the parameter."""
    entry: bool
    """True where nothing of its layer comes before it."""


@dataclass(frozen=True)
class Operations:
    """A model's matrices and attentions, once found."""

    matrices: tuple[Matrix, ...]
    attention: tuple[float, ...]
    """Operations per pair of places, of each layer."""
    block_of: dict[int, int]
    """The layer of each parameter, by its `id`."""
    names: dict[str, int]
    """`id` of each parameter by its name."""
    before_entry: frozenset[int]
    """Parameters of norms that come before the first matrix of their layer."""
    ends: frozenset[str]
    """Matrices whose product leaves their layer as it is: torch does not compute it again, as nothing asks for it."""
    depth: int

    @property
    def forward(self) -> Cost:
        """One forward pass."""
        total = Cost(pair=sum(self.attention))
        for matrix in self.matrices:
            total += self._through(matrix)
        return total

    def base(self) -> Cost:
        """A forward pass of what stands below the head."""
        below = self.forward
        return Cost(slot=below.slot, pair=below.pair)

    def training(self, trained: Collection[str], *, recomputed: bool) -> Cost:
        """Forward and backward pass of an update in which the named parameters train.

        With `recomputed` activations all layers are computed a second time, each up to the last product whose result
        the backward pass asks for; and all are on the way back, as transformers then gives the embeddings a gradient
        whether they train or not.
        """
        ids = {self.names[name] for name in trained if name in self.names}
        lowest = min((self.block_of[one] for one in ids), default=self.depth + 1)
        lowest = min(lowest, -1) if recomputed else lowest
        total = self.forward
        for matrix in self.matrices:
            through = self._through(matrix)
            if matrix.parameter in ids:
                total += through
            if self._passes_on(matrix, ids, lowest):
                total += through
            if recomputed and 0 <= matrix.block < self.depth and matrix.name not in self.ends:
                total += through
        for block, pair in enumerate(self.attention):
            if block >= lowest:
                total += Cost(pair=pair * (3 if recomputed else 2))
        return total

    def _passes_on(self, matrix: Matrix, ids: Collection[int], lowest: int) -> bool:
        """True where something before the matrix trains, so that its input has a gradient."""
        if matrix.block != lowest:
            return matrix.block > lowest
        if lowest < 0:  # a projection of the embeddings
            return any(one in ids and one != matrix.parameter for one, block in self.block_of.items() if block < 0)
        first = any(one in ids and self.block_of[one] == lowest for one in self.before_entry)
        return first or not matrix.entry

    def _through(self, matrix: Matrix) -> Cost:
        each = 2.0 * matrix.numbers
        return Cost(place=each) if matrix.block >= self.depth else Cost(slot=each)


def operations(model: PreTrainedModel) -> Operations:
    """Find the matrices and attentions of any transformers model, which may be on the meta device."""
    parts = layers(model)
    depth = len(parts.blocks)
    place = {name: index for index, block in enumerate(parts.blocks) for name in block}
    place |= dict.fromkeys(parts.embeddings, -1) | dict.fromkeys((*parts.final, *parts.head), depth)
    named = dict(model.named_parameters())
    block_of = {id(parameter): place[name] for name, parameter in named.items()}
    matrices = tuple(_matrices(model, place, depth))
    return Operations(
        matrices=matrices,
        attention=tuple(_attention(model, parts.blocks)),
        block_of=block_of,
        names={name: id(parameter) for name, parameter in named.items()},
        before_entry=frozenset(id(p) for name, p in named.items() if p.ndim == 1 and FIRST_NORM.search(name)),
        ends=frozenset(_ends(model, matrices, parts.blocks)),
        depth=depth,
    )


def _matrices(model: PreTrainedModel, place: dict[str, int], depth: int) -> Iterator[Matrix]:
    from torch import nn

    head: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    left: set[int] = set()
    alone = not getattr(model.config, "is_encoder_decoder", False)
    for path, module in model.named_modules():
        if alone and CROSS.search(path):
            continue
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module is not head:
            continue
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{own}"
            if not _multiplies(own, parameter.ndim):
                continue
            block = depth if module is head else place.get(name, depth)
            entry = block not in left and LEAVES.search(path.removesuffix(".base_layer")) is None
            if not entry:
                left.add(block)
            share = _share(model, path, module, parameter.shape)
            yield Matrix(name, block, parameter.numel() * share, id(parameter), entry)


def _ends(model: PreTrainedModel, matrices: Sequence[Matrix], blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    """The last matrix of each layer, where neither a norm nor dropout comes after it."""
    from torch import nn

    last = {matrix.block: matrix.name for matrix in matrices}
    for block, names in enumerate(blocks):
        path = last.get(block, "").rpartition(".")[0]
        if not path or any(LAST_NORM.search(name) for name in names):
            continue
        inside = list(model.get_submodule(path.rpartition(".")[0]).children())
        dropped = any(isinstance(part, nn.Dropout) and part.p > 0 for part in inside)
        normed = any("norm" in type(part).__name__.lower() for part in inside)
        if getattr(model.get_submodule(path), "weight", None) is not None and not dropped and not normed:
            yield last[block]


def _multiplies(own: str, dimensions: int) -> bool:
    """Matrices are called weights; what has three dimensions holds one for each of several experts or heads."""
    return dimensions >= 3 or (dimensions == 2 and "bias" not in own and not own.startswith(("A_log", "time_", "D")))


def _share(model: PreTrainedModel, path: str, module: nn.Module, shape: Any) -> float:
    """The share of a parameter that a token meets: that of the experts which it is sent to."""
    config: Any = model.config.get_text_config()
    many = next((value for name in EXPERTS if isinstance(value := getattr(config, name, None), int)), 0)
    chosen = next((value for name in CHOSEN if isinstance(value := getattr(config, name, None), int)), 0)
    if not many or not chosen or "shared" in path or type(module).__name__ in ALL_EXPERTS:
        return 1.0
    stacked = len(shape) == 3 and shape[0] >= many and "expert" in path
    listed = re.search(r"experts\.\d+(\.|$)", path) is not None
    return chosen / many if stacked or listed else 1.0


def _attention(model: PreTrainedModel, blocks: tuple[tuple[str, ...], ...]) -> Iterator[float]:
    """Operations per pair of places, of each layer: 2·heads·(width of a key + width of a value) per attention in it."""
    for block in blocks:
        yield 2.0 * sum(_widths(model, path) for path in _attentions(model, block))


def _attentions(model: PreTrainedModel, block: tuple[str, ...]) -> set[str]:
    """The attentions of a layer, by the module that holds each, without those that compare no places."""
    found: set[str] = set()
    alone = not getattr(model.config, "is_encoder_decoder", False)
    for name in block:
        path = name.rpartition(".")[0]
        while path:
            kind = type(model.get_submodule(path)).__name__
            if "attention" in kind.lower() and not RECURRENT.search(kind) and not (alone and CROSS.search(path)):
                found.add(path)
            path = path.rpartition(".")[0]
    return {path for path in found if not any(path.startswith(f"{outer}.") for outer in found)}


def _widths(model: PreTrainedModel, path: str) -> float:
    """Heads × (width of a key + width of a value), as the configuration has them, or the matrix behind an attention."""
    config: Any = model.config.get_text_config()

    def size(*names: str) -> int:
        return next((value for name in names if isinstance(value := getattr(config, name, None), int)), 0)

    heads = size("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads") or 1
    latent = size("qk_nope_head_dim") and size("qk_nope_head_dim") + size("qk_rope_head_dim")
    behind: Any = getattr(model.get_submodule(path), "o_proj", None)
    if not latent and not size("v_head_dim") and isinstance(width := getattr(behind, "in_features", None), int):
        return 2.0 * width
    width = size("head_dim", "attention_head_size", "d_kv") or size("hidden_size", "n_embd", "d_model", "dim") / heads
    return float(heads * ((latent or width) + (size("v_head_dim") or width)))
