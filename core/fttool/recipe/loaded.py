"""A recipe that has been read: valid, and aware of where each of its keys was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from fttool.contracts.recipe import Recipe
from fttool.plugins import Plugins
from fttool.recipe.overrides import Key


class Common(TypedDict):
    """Fields of every context that the recipe decides."""

    seed: int
    folder: Path


@dataclass(frozen=True)
class Loaded:
    """A valid recipe and where it came from."""

    recipe: Recipe
    """Valid, with every default."""
    plugins: Plugins
    """Those that are installed, by which it was read."""
    path: Path
    """Of its file; where it is none, what its file would be called."""
    text: str
    """The file as given."""
    where: Callable[[Key], str]
    """Key → `file:line:column` of it or the nearest key around it, or `--set key` where an override wrote it."""
    overrides: tuple[str, ...] = ()
    """The command line's `--set`, as given."""
    dropped: tuple[str, ...] = ()
    """What they took away, one sentence each."""
    data: Mapping[str, Any] | None = None
    """The recipe as it was given, where it is not a file."""
    said: tuple[str, ...] = ()
    """What was chosen where the recipe leaves a choice to its rows, one sentence each."""

    @property
    def folder(self) -> Path:
        """Relative paths in the recipe start here."""
        return self.path.parent / Path(self.recipe.run.folder or "").expanduser()

    @property
    def common(self) -> Common:
        """What the context of every strategy has, see `contracts.strategy.Context`."""
        return {"seed": self.recipe.run.seed, "folder": self.folder}

    @property
    def name(self) -> str:
        """The run's name."""
        return self.recipe.run.name or self.path.stem

    @property
    def needs_network(self) -> bool:
        """True where the recipe names something over the network; a run has none otherwise."""
        names_hub = any(rows.remote for _, rows in self.recipe.data.datasets())
        return names_hub or self.recipe.model.source.needs_network(self.folder)
