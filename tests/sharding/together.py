"""Short runs that several test modules look at, all made by one pair of processes: to start it costs most of them all.

A module says which runs it wants when it is imported, so that where it is tested alone, only those are made. Names
begin with the engine, as runs are made in the order of their names and ZeRO comes last; then comes the module's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .matrix import Outcome, run_recipes

Recipes = dict[str, dict[str, Any]]
"""By name, each with its sharding, of two processes."""
Made = dict[str, Outcome | str]
"""By name: what a run left behind, or what was said where it was refused."""

_first: list[Callable[[Path, Path], Recipes]] = []
_again: list[Callable[[Path, Made], Recipes]] = []


def first(plan: Callable[[Path, Path], Recipes]) -> Callable[[Path, Path], Recipes]:
    """Decorates what plans runs, from a folder for its files and the tiny model."""
    _first.append(plan)
    return plan


def again(plan: Callable[[Path, Made], Recipes]) -> Callable[[Path, Made], Recipes]:
    """Decorates what plans to go on with some, from the folder whose `runs` they must lie in and what was made."""
    _again.append(plan)
    return plan


@dataclass
class Together:
    """The runs; each of the two pairs of processes is started when it is first asked for."""

    folder: Path
    model: Path
    _made: Made = field(default_factory=dict)
    _gone_on: Made = field(default_factory=dict)

    @property
    def strangers_state(self) -> str:
        """The state folder of who goes on with the runs: another user's, with a key of its own."""
        return str(self.folder / "another's state")

    def made(self) -> Made:
        """What the plans asked for."""
        if not self._made:
            recipes: Recipes = {}
            for plan in _first:
                place = self.folder / plan.__module__.rpartition(".")[2]
                place.mkdir()
                recipes |= plan(place, self.model)
            self._made |= run_recipes(self.folder / "first", recipes)
        return self._made

    def gone_on(self) -> Made:
        """The same in new processes, which resume, of a user who has not made the runs."""
        if not self._gone_on:
            made, folder = self.made(), self.folder / "again"
            recipes = {name: recipe for plan in _again for name, recipe in plan(folder, made).items()}
            self._gone_on |= run_recipes(folder, recipes, resume=True, XDG_STATE_HOME=self.strangers_state)
        return self._gone_on
