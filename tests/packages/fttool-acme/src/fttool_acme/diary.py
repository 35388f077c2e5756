"""Watches a run and writes a line for everything it is told into `acme-diary.txt` of the run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.api import hookimpl

if TYPE_CHECKING:
    from fttool.api import Event, Recipe

NAME = "acme-diary.txt"


class Diary:
    """Lines, kept back until there is a run directory."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.waiting: list[str] = []

    def write(self, line: str) -> None:
        """Append one line."""
        self.waiting.append(line)
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(f"{one}\n" for one in self.waiting)
            self.waiting.clear()


diary = Diary()


@hookimpl
def fttool_recipe_loaded(recipe: Recipe) -> None:
    """A run is about to be prepared; an earlier one of this process is over."""
    diary.file = None
    diary.waiting.clear()
    diary.write(f"loaded a recipe with schedule {recipe.schedule.id()}")


@hookimpl
def fttool_run_started(run_dir: Path, total_steps: int) -> None:
    """The run directory is there."""
    diary.file = run_dir / NAME
    diary.write(f"started {total_steps} updates")


@hookimpl
def fttool_logged(step: int, values: Mapping[str, Any]) -> None:
    """A line of metrics."""
    diary.write(f"step {step}: {', '.join(sorted(values))}")


@hookimpl
def fttool_event(event: Event) -> None:
    """What people are told of it too."""
    if event.text:
        diary.write(f"{event.kind()}: {event.text}")


@hookimpl
def fttool_checkpoint_saved(step: int, folder: Path) -> None:
    """A checkpoint."""
    diary.write(f"saved {folder.name}")


@hookimpl
def fttool_run_finished(status: str, summary: Mapping[str, Any]) -> None:
    """The end."""
    diary.write(f"{status} after {summary['steps']} updates")
