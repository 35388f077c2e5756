"""The load-balancing loss of a mixture of experts, whose router would else send most tokens to a few of them.

E · Σₑ fₑ Pₑ over E experts (Fedus et al. 2021, arXiv 2101.03961, equations 4 to 6): fₑ is how many of the tokens' k
choices fall on expert e, Pₑ its mean probability, both over all tokens and layers. It is k where all are used alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fttool.api import ModelError, Problem

if TYPE_CHECKING:
    from torch import Tensor

KEY = ("task", "router_loss")
COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")
"""What transformers calls the loss's coefficient, on the model or in its configuration."""


def has_router(model: Any) -> bool:
    """True for a mixture of experts that hands out what its router says of each token."""
    return hasattr(model.config.get_text_config(), "output_router_logits")


def own_coefficient(model: Any) -> float:
    """The coefficient that the model's configuration has; 0 where it says that the loss is off."""
    config = model.config.get_text_config()
    return _listed_coefficient(model) if getattr(config, "output_router_logits", False) else 0.0


def _listed_coefficient(model: Any) -> float:
    places = [(owner, name) for owner in (model, model.config.get_text_config()) for name in COEFFICIENTS]
    return next((float(getattr(owner, name)) for owner, name in places if hasattr(owner, name)), 0.0)


def refuse_without_router(model: Any, asked: float | None) -> None:
    """Raise where the recipe asks for the loss of a model that has no router."""
    if asked and not has_router(model):
        message = f"{type(model).__name__} is not a mixture of experts that returns its router's choices"
        raise ModelError(Problem(message, hint="leave task.router_loss out", key=KEY))


def said(model: Any, asked: float | None) -> Sequence[str]:
    """Whether the loss is on, and why; nothing of a model without a router."""
    if not has_router(model):
        return []
    if asked is not None:
        return [f"the router's load-balancing loss has the coefficient {asked:g}, as the recipe says"]
    if coefficient := own_coefficient(model):
        return [
            f"the router's load-balancing loss has the coefficient {coefficient:g}, as the model's configuration says"
        ]
    there = _listed_coefficient(model)
    return [
        "the router's load-balancing loss is off, as the model's configuration says (output_router_logits = false); "
        f"task.router_loss = {there or 0.001:g} switches it on"
    ]


def balancing(model: Any, outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss over the real tokens of a micro-batch, a scalar in float32; `outputs` have the router's logits."""
    config = model.config.get_text_config()
    top_k = getattr(model, "num_experts_per_tok", None) or getattr(config, "num_experts_per_tok", None)
    gates: Sequence[Tensor] | None = getattr(outputs, "router_logits", None)
    if not gates or top_k is None:
        message = f"{type(model).__name__} does not return its router's choices"
        raise ModelError(Problem(message, hint="switch its load-balancing loss off: task.router_loss = 0", key=KEY))
    return balancing_loss(gates, top_k, real_tokens(batch).flatten())


def balancing_loss(gates: Sequence[Tensor], top_k: int, real_S: Tensor) -> Tensor:
    """E · Σₑ fₑ Pₑ of the router's logits of each layer, (S, E) or (B, T, E), where `real_S` is true."""
    import torch

    weights_S1 = real_S.float().unsqueeze(1)
    chosen_E = probable_E = torch.zeros((), device=weights_S1.device)
    for gate in gates:
        p_SE = gate.flatten(0, -2).float().softmax(-1).to(weights_S1.device)
        picks_SE = torch.zeros_like(p_SE).scatter(1, p_SE.topk(top_k, dim=-1).indices, 1.0)
        chosen_E = chosen_E + (picks_SE * weights_S1).sum(0).detach()
        probable_E = probable_E + (p_SE * weights_S1).sum(0)
    tokens = weights_S1.sum() * len(gates)
    return (chosen_E / tokens * (probable_E / tokens)).sum() * len(probable_E)


def real_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, T): false where a micro-batch is padding; in a packed one each slot of it has position 0."""
    import torch
    import torch.nn.functional as F

    if "attention_mask" in batch:
        return batch["attention_mask"].bool()
    if "position_ids" not in batch:
        return torch.ones_like(batch["input_ids"], dtype=torch.bool)
    positions_BT = batch["position_ids"]
    return (positions_BT > 0) | (F.pad(positions_BT[:, 1:], (0, 1)) == 1)  # a learned row has two tokens or more
