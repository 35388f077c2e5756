"""What the strategies that pull weights share: which weights are meant, and that 16-bit weights cannot be pulled."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from fttool.api import Problem, RecipeError, RegularizerContext

if TYPE_CHECKING:
    from fttool.api import Recipe

Patterns: TypeAlias = Annotated[tuple[str, ...], Field(min_length=1)]
"""Shell patterns of parameter names."""


def named(patterns: Iterable[str], strategy: str, ctx: RegularizerContext) -> frozenset[str]:
    """The model's parameters that fit any of the patterns; raises `RecipeError` for one that fits none."""
    names = [name for name, _ in ctx.model.named_parameters()]
    chosen: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in names if fnmatchcase(name, pattern)}
        if not fitting:
            raise RecipeError(
                f"{strategy}: no parameter is called '{pattern}'",
                hint=f"the model's are {names[0]}, {names[len(names) // 2]} …",
            )
        chosen |= fitting
    return frozenset(chosen)


def refuse_16_bits(recipe: Recipe, strategy: str) -> Iterable[Problem]:
    """A pull is smaller than the rounding of 16-bit weights: 0.02 − 1e-5 is 0.02 in bfloat16."""
    if recipe.precision.half_weights:
        yield Problem(
            f"bfloat16 weights cannot be pulled by {strategy}: their rounding swallows it",
            key=("precision", "weights"),
            hint='set weights = "float32"; the computation stays in bf16',
        )
