"""Advice: what would come of a recipe that is valid and could be better. No strategy, as it decides nothing of a run.

A rule is installed under an entry point of the group `fttool.advice.v1`, whose name is the rule's id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fttool.contracts.recipe import Recipe

ADVICE = "fttool.advice.v1"
"""The group of entry points."""


@dataclass(frozen=True, kw_only=True)
class AdviceContext:
    """What a rule looks at."""

    recipe: Recipe
    """Valid, with every default."""
    rows: Mapping[str, int | None]
    """Rows of `train`, `eval`, `general` and `retention`: in a dry run those that the run has; in `fttool validate`
    those that were read, none filtered yet, and None where there are more than are looked at, or they are elsewhere."""
    prepared: Any = None
    """The run just before its first update, for rules that need it: its model, rows in tokens, groups, schedule."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What one rule has to say."""

    happens: str
    """What would happen, in a sentence or two: what was seen in this recipe, and a figure that was measured."""
    remedy: str
    """What to do, as it would be typed."""
    source: str
    """Where the figure comes from: a link, or a page of the docs."""
    key: tuple[str | int, ...] = ()
    """Place in the recipe that it is about, e.g. `("optimizer", "lr")`; located by who knows the file."""
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was seen, for programs, as JSON has it."""


@dataclass(frozen=True, kw_only=True)
class AdviceRule:
    """A rule: it says what would happen, or None where it sees nothing."""

    judge: Callable[[AdviceContext], Advice | None]
    """Imports no torch unless it `needs` a prepared run."""
    needs: Literal["recipe", "rows", "run"] = "recipe"
    """What it cannot do without: the recipe alone; the number of training rows; or the run before its first update,
    which only `fttool run --dry-run` has."""
