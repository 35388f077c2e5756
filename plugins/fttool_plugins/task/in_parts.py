"""Learning from the logits of a few places at a time, so that those of all places are never there at once.

Logits in float32 with their gradient are the largest thing in memory where the vocabulary is large: 4,096 places of
128,000 tokens take 2 GiB, and the softmax, its gradient and a copy as much again each. Here the model runs once up to
its head, which gets no place at all. Then what it does from there on, soft-capping and scaling included, is asked
for a few places at a time, and asked again in the backward pass instead of being kept (Chen et al. 2016, "Training Deep
Nets with Sublinear Memory Cost", arXiv 1604.06174). Every model's own forward is used, so that this file knows no
architecture; a run tries on its own model whether the losses and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

NUMBERS = 2**26
"""Logits that are held at once: 256 MiB in float32."""


def places_at_once(vocabulary: int, tokens: int) -> int | None:
    """How many places go through the head at once; None where all may, since their logits are no more than twice those
    that would be held anyway.
    """
    places = max(1, NUMBERS // vocabulary)
    return places if tokens > 2 * places else None


def losses(
    model: Any, forward: Callable[[], Any], places_N: Tensor, targets_N: Tensor, at_once: int
) -> tuple[Tensor, Any]:
    """The cross-entropy (N,) of the model's predictions at `places_N` of (B·T,), and the outputs of `forward`, which is
    a pass through the model and has no logits.

    `model` is the causal model itself, without what an engine has wrapped around it.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    layers = _layers(model)
    with _held_back(layers, places_N) as kept:
        outputs = forward()
    (said,) = kept
    hidden_ND = said.last_hidden_state.squeeze(0)
    parts: list[Tensor] = []
    for hidden, targets in zip(hidden_ND.split(at_once), targets_N.split(at_once), strict=True):
        part: Any = checkpoint(_losses_of, model, layers, said, hidden, targets, use_reentrant=False)
        parts.append(part)
    return torch.cat(parts), outputs


def _layers(model: Any) -> nn.Module:
    """What makes the hidden states: the part of the model that its own forward calls before the head."""
    # Not every model means it by the first of these.
    named: tuple[Any, ...] = (model.get_decoder(), model.base_model, getattr(model, "model", None))
    others = (None, model, model.get_output_embeddings())
    return next((part for part in named if all(part is not other for other in others)), model)


def _losses_of(model: Any, layers: nn.Module, said: Any, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    """Of hidden states that the layers have made beside all else that they `said`: what the model does after them."""
    import torch.nn.functional as F

    with _saying(layers, replace(said, last_hidden_state=hidden_ND.unsqueeze(0))):
        outputs = model(input_ids=targets_N.unsqueeze(0), use_cache=False)  # the layers are not asked
    return F.cross_entropy(outputs.logits.squeeze(0).float(), targets_N, reduction="none")


@contextmanager
def _held_back(layers: nn.Module, places_N: Tensor) -> Generator[list[Any]]:
    """While open, what comes after `layers` sees no place; what they say of `places_N` of (B·T,) is kept, (1, N, D)."""
    kept: list[Any] = []

    def hold_back(_: nn.Module, __: Any, said: Any) -> Any:
        hidden_1ND = said.last_hidden_state.flatten(0, 1).index_select(0, places_N).unsqueeze(0)
        kept.append(replace(said, last_hidden_state=hidden_1ND))
        return replace(said, last_hidden_state=hidden_1ND[:, :0])

    handle = layers.register_forward_hook(hold_back)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def _saying(layers: nn.Module, said: Any) -> Generator[None]:
    """While open, the layers say `said`, whatever they are asked."""
    before = layers.__dict__.get("forward")
    layers.forward = lambda *_, **__: said
    try:
        yield
    finally:
        del layers.forward
        if before is not None:
            layers.forward = before
