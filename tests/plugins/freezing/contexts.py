"""What the tests of freezing build with: a tiny Llama of four layers in a run of twelve updates, in epochs of three."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from fttool.api import Freezing, FreezingContext, TrainableUnit, layers
from fttool.testing import tiny_model

EMBEDDINGS, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def llama(**changes: Any) -> PreTrainedModel:
    return tiny_model(num_hidden_layers=4, **changes)


def units(strategy: Freezing, model: PreTrainedModel | None = None, **changes: Any) -> list[TrainableUnit]:
    """The units of a strategy; `changes` are those of its context."""
    model = model if model is not None else llama()
    values: dict[str, Any] = {"total_steps": 12, "steps_per_epoch": 3, "seed": 5, **changes}
    return list(strategy.build(FreezingContext(model=model, layers=layers(model), **values)).units)


def layer(number: int, model: PreTrainedModel | None = None) -> set[str]:
    """Names of the parameters of a Llama's layer; by its prefix, not by what is under test."""
    model = model if model is not None else llama()
    return {name for name, _ in model.named_parameters() if name.startswith(f"model.layers.{number}.")}


def starts(found: list[TrainableUnit]) -> dict[str, int]:
    """Parameter → the first update that changes it, for units that never rest again."""
    return {name: unit.trains_in[0].start for unit in found for name in unit.parameters}
