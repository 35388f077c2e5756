"""The model's layers, for strategies that count them, and what is said where there are too few."""

from __future__ import annotations

from fttool.api import FreezingContext, ModelError, Problem


def stack(ctx: FreezingContext, strategy: str) -> tuple[tuple[str, ...], ...]:
    """Parameter names of each layer, from the bottom up; raises `ModelError` for a model without a stack of layers."""
    if not ctx.layers.blocks:
        raise ModelError(
            f"freezing '{strategy}' counts layers, and {type(ctx.model).__name__} has no stack of them",
            hint='name what trains with freezing = {name = "patterns", train = […]}',
        )
    return ctx.layers.blocks


def refuse_more_than(ctx: FreezingContext, option: str, asked: int) -> None:
    """Raise `ModelError` where `asked` is more layers than the model has."""
    there = len(ctx.layers.blocks)
    if asked > there:
        message = f"freezing.{option} is {asked}, and {type(ctx.model).__name__} has {there} layers"
        raise ModelError(Problem(message, key=("freezing", option), hint=f"set {option} = {there} or less"))
