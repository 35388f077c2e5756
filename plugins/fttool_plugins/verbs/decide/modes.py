"""Ways to fine-tune that are compared: which weights train, and at which rate.

The recipe's own way, where it is one of them, is tried as the recipe has it. The others get a rate relative to it, by
how much more a few weights bear than all of them: adapters ten times (Schulman et al. 2025, "LoRA Without Regret"), a
classifier's head a hundred times (the recipes for spam: 1e-2 for the head, 5e-5 for all).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fttool.api import Recipe, layers
from fttool.verbs import Loaded, outline

RATES: Mapping[str, float] = {"head-only": 10.0, "top-layers": 1.0, "lora": 10.0, "full": 1.0}
"""Times the rate of `full`; the cheapest way first."""
CLASSIFIER_HEAD = 100.0
"""Times that rate, for a head that is new and small."""
TOP = 4
"""One of so many layers trains with `top-layers`."""


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to fine-tune."""

    name: str
    freezing: Mapping[str, Any]
    """The table `[freezing]`."""
    rate: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What is to be known of a model beforehand."""

    blocks: int
    """Layers."""
    tied: bool
    """True where the head shares its weights with the input embeddings."""
    positions: int | None
    """Tokens that a row may have; None where their number has no end."""


def shape(settings: Loaded) -> Shape:
    """Of the model of a recipe that trains all of it; its rows are read, and no weight is loaded."""
    model: Any = outline(settings, quiet=True).model
    parts = layers(model)
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return Shape(len(parts.blocks), parts.tied, positions)


def modes(recipe: Recipe, model: Shape) -> tuple[list[Mode], dict[str, str]]:
    """Those that this model can be tuned in, the cheapest first, and the others with the reason."""
    own, left_out = recipe.freezing, dict[str, str]()
    factors = {**RATES, "head-only": RATES["head-only"] if recipe.task.learns == "token" else CLASSIFIER_HEAD}
    base = recipe.optimizer.lr / factors.get(own.id(), 1.0)
    tables: dict[str, dict[str, Any]] = {
        "head-only": {"name": "head-only", **({"untie": True} if model.tied else {})},
        "top-layers": {"name": "top-layers", "n": max(1, model.blocks // TOP)},
        "lora": {"name": "lora"},
        "full": {"name": "full"},
    }
    if not model.blocks:
        left_out["top-layers"] = "the model has no stack of layers"
    if find_spec("peft") is None:
        left_out["lora"] = "it needs peft: pip install 'fttool[lora]'"
    if own.id() in tables:
        tables[own.id()] = {"name": own.id(), **own.model_dump(mode="json", exclude_unset=True, exclude_none=True)}
    return [Mode(name, tables[name], base * factors[name]) for name in tables if name not in left_out], left_out
