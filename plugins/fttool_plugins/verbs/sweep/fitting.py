"""Which recipes of a space are valid: asked of the same validation as `fttool validate`, before anything is trained.

An option that only some values of its strategy's key have (`freezing.rank` beside `freezing=full,lora`) is chosen with
those alone. What validation refuses for another reason is never tried.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from fttool.api import FttoolError, Problem, RecipeError
from fttool.verbs import Loaded, counted, format_value, with_overrides
from fttool_plugins.verbs.sweep.spaces import Range, Space, Value

LOOKED_AT = 128
"""Recipes of a space that are validated before it is searched; of more, so many at random."""
MORE = 16
"""Further ones for a value that none of them has."""

SHOWN = 3
"""Values of a key that are named where no recipe is valid with them."""

Chosen = Mapping[str, Value]
"""A value by each key that is searched and applies."""


@dataclass
class Fitting:
    """A recipe and its space."""

    loaded: Loaded
    spaces: Sequence[Space]
    _known: dict[str, bool] = field(default_factory=dict[str, bool])

    def recipe(self, chosen: Chosen, more: Mapping[str, Value] | None = None) -> Loaded:
        """The recipe with these values; `FttoolError` where validation refuses it."""
        return with_overrides(self.loaded, {**chosen, **(more or {})})

    def applies(self, space: Space, chosen: Chosen) -> bool:
        """Whether a key means anything beside the values chosen for the keys above it."""
        above = {key: value for key, value in chosen.items() if _is_above(key, space.key)}
        if not above:
            return True
        asked = f"{space.key} {format_value(above)}"
        if asked not in self._known:
            self._known[asked] = any(self.refusal({**above, space.key: value}) is None for value in space.tried)
        return self._known[asked]

    def refusal(self, chosen: Chosen) -> Sequence[Problem] | None:
        """Why validation refuses the recipe with these values; None where it does not."""
        try:
            self.recipe(chosen)
        except FttoolError as wrong:
            return wrong.problems
        return None

    def all_chosen(self) -> Iterator[Chosen]:
        """Every combination of values, once, with those keys alone that apply; ranges have their ends."""
        seen: set[str] = set()
        for values in product(*(space.tried for space in self.spaces)):
            chosen = self._chosen(values)
            if (written := format_value(chosen)) not in seen:
                seen.add(written)
                yield chosen

    def _chosen(self, values: Sequence[Value]) -> Chosen:
        chosen: dict[str, Value] = {}
        for space, value in zip(self.spaces, values, strict=True):
            if self.applies(space, chosen):
                chosen[space.key] = value
        return chosen

    def some_chosen(self) -> Iterator[Chosen]:
        """The same, but a sample where they are many: the same one each time, with every value in it."""
        if prod(len(space.tried) for space in self.spaces) <= LOOKED_AT:
            yield from self.all_chosen()
            return
        chance = random.Random(0)
        for _ in range(LOOKED_AT):
            yield self._chosen([chance.choice(space.tried) for space in self.spaces])
        for place, space in enumerate(self.spaces):
            for value, _ in product(space.tried, range(MORE)):
                values = [chance.choice(other.tried) for other in self.spaces]
                yield self._chosen([*values[:place], value, *values[place + 1 :]])


@dataclass(frozen=True, slots=True)
class Checked:
    """What validation says of a space."""

    looked_at: int
    refused: int
    example: str
    """Why one of them is refused; empty where none is."""

    def sentence(self) -> str:
        """For people; empty where nothing is refused."""
        if not self.refused:
            return ""
        return f"{self.refused} of {counted(self.looked_at, 'recipe')} that were validated are refused and never tried"


def check_spaces(fitting: Fitting) -> Checked:
    """Validate the recipes of a space.

    Raises:
        RecipeError: for every value with which no recipe is valid, with what validation says of one that has it.
    """
    good: dict[str, set[str]] = {space.key: set() for space in fitting.spaces}
    wrong: dict[tuple[str, str], Problem] = {}
    looked_at = refused = 0
    first = ""
    for chosen in fitting.some_chosen():
        looked_at += 1
        problems = fitting.refusal(chosen)
        if problems is None:
            for key, value in chosen.items():
                good[key].add(format_value(value))
            continue
        refused += 1
        first = first or f"{in_words(chosen)}: {problems[0].message}"
        for key, value in chosen.items():
            own = (one for one in problems if one.where.removeprefix("--set ").startswith(key))
            wrong.setdefault((key, format_value(value)), next(own, problems[0]))
    _refuse_hopeless(fitting, good, wrong)
    return Checked(looked_at, refused, first)


def _refuse_hopeless(fitting: Fitting, good: Mapping[str, set[str]], wrong: Mapping[tuple[str, str], Problem]) -> None:
    problems: list[Problem] = []
    for space in fitting.spaces:
        hopeless = [value for value in space.tried if format_value(value) not in good[space.key]]
        said = [wrong.get((space.key, format_value(value))) or _alone(fitting, space, value) for value in hopeless]
        where = f"--over {space.key}"
        if len(hopeless) == len(space.tried) and len({problem.message for problem in said}) == 1:
            problems.append(Problem(f"no recipe is valid: {said[0].message}", where=where, hint=said[0].hint))
            continue
        end = "the end " if isinstance(space, Range) else ""
        for value, problem in zip(hopeless[:SHOWN], said, strict=False):
            message = f"with {end}{format_value(value)} no recipe is valid: {problem.message}"
            problems.append(Problem(message, where=where, hint=problem.hint))
        if len(hopeless) > SHOWN:
            problems.append(Problem(f"and with {len(hopeless) - SHOWN} more of its values", where=where))
    if problems:
        raise RecipeError(problems)


def _alone(fitting: Fitting, space: Space, value: Value) -> Problem:
    """What is wrong with a value that applies beside no other: what validation says of it by itself."""
    problems = fitting.refusal({space.key: value})
    return problems[0] if problems else Problem("it never applies")


def _is_above(key: str, other: str) -> bool:
    """Whether `key` decides which options `other` may be: `freezing` or `freezing.name` above `freezing.rank`."""
    table = key.removesuffix(".name")
    return key != other and other.startswith(f"{table}.")


def in_words(chosen: Mapping[str, Any]) -> str:
    """Values as one would type them."""
    return "  ".join(f"{key}={_short(value)}" for key, value in chosen.items())


def _short(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else format_value(value)
