"""`patterns`: what trains is said by the parameters' names.

Patterns are those of a shell: `*` stands for any characters, dots included, `?` for one, `[0-3]` for one of several.
`fttool run --dry-run` shows what they hit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field
from typing_extensions import override

from fttool.api import Freezing, FreezingContext, FreezingPlan, Problem, RecipeError, TrainableUnit

if TYPE_CHECKING:
    from fttool.api import Recipe

Pattern: TypeAlias = Annotated[str, Field(min_length=1)]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """True where one of the patterns fits the whole name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Patterns(Freezing):
    """Parameters train whose names fit a pattern of `train` and none of `freeze`.

    Use it for what the others do not say: attention only, one block, all but the embeddings. Cost: in
    proportion to what trains, and down to the lowest of it.
    """

    name: Literal["patterns"] = "patterns"
    train: Annotated[tuple[Pattern, ...], Field(min_length=1)] = ("*",)
    """Shell patterns of the names that train, e.g. `["*.self_attn.*", "lm_head.*"]`; default: all."""
    freeze: tuple[Pattern, ...] = ()
    """Shell patterns of names that stay as they are; they win over `train`."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        for place, pattern in enumerate(self.freeze):
            if set(pattern) == {"*"}:
                message = f"freezing.freeze has '{pattern}', which is every parameter: nothing would train"
                hint = "freeze wins over train: name what trains in train, and leave freeze out"
                yield Problem(message, key=("freezing", "freeze", place), hint=hint)

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit; raises `RecipeError` for patterns that fit nothing, or leave nothing to train."""
        names = [name for name, _ in ctx.model.named_parameters()]
        problems = [
            Problem(
                f"no parameter is called '{pattern}'",
                key=("freezing", option, place),
                hint=self._hint(pattern, names, ctx),
            )
            for option, patterns in (("train", self.train), ("freeze", self.freeze))
            for place, pattern in enumerate(patterns)
            if not any(fnmatchcase(name, pattern) for name in names)
        ]
        if problems:
            raise RecipeError(problems)
        trained = frozenset(name for name in names if matches(name, self.train) and not matches(name, self.freeze))
        if not trained:
            message, hint = "freezing.freeze covers all that freezing.train names", "narrow freeze, or widen train"
            raise RecipeError(Problem(message, key=("freezing", "freeze"), hint=hint))
        return FreezingPlan(units=[TrainableUnit(parameters=trained)])

    def _hint(self, pattern: str, names: Sequence[str], ctx: FreezingContext) -> str:
        """The nearest names; for a tied weight the one under which the model lists it."""
        everything = [name for name, _ in ctx.model.named_parameters(remove_duplicate=False)]
        if ctx.layers.tied and any(fnmatchcase(name, pattern) for name in everything):
            return f"the head shares the input embeddings, which are called '{ctx.layers.embeddings[0]}'"
        near = get_close_matches(pattern, names, n=3, cutoff=0.5)
        shown = near or [names[0], names[len(names) // 2], names[-1]]
        return f"{'near it' if near else 'names here'}: {', '.join(shown)}"
