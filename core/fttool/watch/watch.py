"""Whatever happens in a run is told once, here: the run directory, the screen, observers and trackers hear of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fttool.events import CheckpointSaved, Event
from fttool.recipe.loaded import Loaded
from fttool.rundir.record import Record
from fttool.watch.observers import Observers
from fttool.watch.screen import Screen
from fttool.watch.tracking import Trackers

T = TypeVar("T")


class Watch:
    """Told what happens, in the order in which it does; who hears of it does not concern the one who tells."""

    def __init__(self, loaded: Loaded, record: Record, screen: Screen, *, on: bool = True) -> None:
        """Where several processes make a run, observers and trackers are `on` in one of them."""
        self._recipe, self._record, self._screen = loaded.recipe, record, screen
        self._observers = Observers(loaded, self.event, on=on)
        self._trackers = Trackers(loaded.recipe, record, self.event, on=on)

    # -- what a person should know --

    def stage(self, text: str) -> None:
        """A step of the preparation begins."""
        self._screen.stage(text)

    def note(self, text: str, hint: str = "") -> None:
        """Something that the user should know, and what to do about it; not part of the record."""
        self._screen.note(text, hint)

    def track(self, items: Sequence[T], what: str) -> Iterable[T]:
        """The items one by one: a step that takes long."""
        return self._screen.track(items, what)

    # -- what stays on record --

    def event(self, event: Event, *, known: bool = False) -> None:
        """A line of `events.jsonl`; where it is `known`, people have read its text already."""
        self._screen.event(event, known=known)
        self._record.event(event)
        self._observers.call("fttool_event", event=event)

    def recipe_loaded(self) -> None:
        """The recipe is valid; nothing has been written or loaded yet."""
        self._observers.call("fttool_recipe_loaded", recipe=self._recipe)

    def started(self, total: int, done: int) -> None:
        """The first of `total` updates is about to begin; `done` are behind already."""
        self._observers.call("fttool_run_started", recipe=self._recipe, run_dir=self._record.path, total_steps=total)
        self._trackers.begin(done)
        self._screen.started(total, done)

    def step(self, step: int) -> None:
        """An update is done."""
        self._screen.step(step)

    def logged(self, step: int, line: Mapping[str, Any]) -> None:
        """Values of updates or of an evaluation: a line of `metrics.jsonl`."""
        self._record.metrics(line)
        self._screen.logged(step, line)
        self._observers.call("fttool_logged", step=step, values=line)
        self._trackers.log(step, line)

    def saved(self, step: int, folder: Path) -> None:
        """A checkpoint is complete under its final name."""
        self.event(CheckpointSaved(step=step))
        self._observers.call("fttool_checkpoint_saved", step=step, folder=folder)

    def refuse_loss(self) -> None:
        """Raise `DiskError` where the run directory was moved or deleted meanwhile."""
        self._record.refuse_loss()

    def stopped(self) -> None:
        """The loop is over, well or not."""
        self._screen.stopped()

    def ended(self, status: str, summary: Mapping[str, Any]) -> None:
        """`summary.json` is written; `status` is `finished`, `interrupted`, `diverged` or `failed`."""
        self._observers.call("fttool_run_finished", status=status, summary=summary)
        self._trackers.end(status)
