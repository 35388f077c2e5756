"""Experiment trackers (`trackers.py`), told what a run is and how it goes.

Each is told the resolved recipe (every table, as `table.key`), the versions of the libraries and plugins, the hashes of
rows and model, and each line of `metrics.jsonl`; nothing else, so nothing that is not so. transformers' own callbacks
record the Trainer's arguments, among which the schedule, the optimizer and the warmup are not those of the run.

What a tracker writes lies in the run directory, unless its own environment variables name a server; trackio's runs lie
in one folder of their own. A resumed run goes on in the same place. One that cannot begin ends the run before its first
update, with a code of its own; one that fails later is switched off and recorded, like an observer, and the run goes
on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import tomli

from fttool.contracts.recipe import Recipe
from fttool.errors import Problem, RecipeError, TrackerError, gist
from fttool.plain import children, is_array, is_table
from fttool.watch.trackers import KNOWN, Told, Tracker

if TYPE_CHECKING:
    from fttool.events import Event
    from fttool.rundir.record import Record

PLACES = "tracking.json"
"""In the run directory: the tracker's own name of the run, by tracker, for one that is resumed."""


@dataclass
class Trackers:
    """Those of a run, in the process that shows it; none in the others."""

    recipe: Recipe
    record: Record
    tell: Callable[[Event], None]
    on: bool = True
    _open: dict[str, Tracker] = field(default_factory=dict[str, Tracker], init=False)

    def begin(self, step: int) -> None:
        """Open all of them; `TrackerError` where one cannot be."""
        places = self._places()
        for index, name in enumerate(self.recipe.tracking.to if self.on else ()):
            try:
                tracker: Tracker = KNOWN[name]()
                with redirect_stdout(sys.stderr):  # programs read events from stdout, and libraries greet people there
                    place = tracker.begin(self._told(step, places.get(name)))
            except (Exception, SystemExit) as fault:
                hint = "fix it (its own pages say what it needs), or train without: --set 'tracking.to=[]'"
                message = f"the tracker '{name}' cannot begin: {gist(fault)}"
                problem = Problem(message, hint=hint, key=("tracking", "to", index))
                raise TrackerError(problem) from fault
            self._open[name] = tracker
            if places.get(name) != place:
                places[name] = place
                (self.record.path / PLACES).write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")

    def log(self, step: int, line: Mapping[str, Any]) -> None:
        """The numbers of a line of `metrics.jsonl`."""
        values = {_named(key): float(value) for key, value in line.items() if _is_number(key, value)}
        self._call("log", lambda tracker: tracker.log(step, values))

    def end(self, status: str) -> None:
        """Give them the artifacts that the recipe names, those that are there, and close all of them."""
        for name in self.recipe.tracking.artifacts if self._open else ():
            artifact = self.record.path / name
            if artifact.exists():
                self._call("keep", lambda tracker, kept=artifact: tracker.keep(kept))
            elif status == "finished":
                from fttool.events import Noted

                self.tell(Noted(text=f"trackers are given no artifact '{name}': the run has written none"))
        self._call("end", lambda tracker: tracker.end(status))
        self._open.clear()

    def _call(self, what: str, call: Any) -> None:
        for name, tracker in list(self._open.items()):
            try:
                with redirect_stdout(sys.stderr):
                    call(tracker)
            except (Exception, SystemExit) as fault:
                from fttool.events import TrackerFailed  # `validate` asks which trackers are installed, and no more

                del self._open[name]
                text = f"the tracker '{name}' is switched off: {gist(fault)}"
                self.tell(TrackerFailed(text=text, tracker=name, during=what, error=gist(fault)))

    def _told(self, step: int, place: str | None) -> Told:
        text = self.record.resolved_recipe()
        recipe = tomli.loads(text)
        return Told(
            name=recipe["run"]["name"],
            project=self.recipe.tracking.project,
            folder=self.record.path,
            facts={**flat(recipe), **dict(_locked(self.record.lock()))},
            recipe=text,
            step=step,
            place=place,
        )

    def _places(self) -> dict[str, str]:
        try:
            content: Any = json.loads((self.record.path / PLACES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return (
            {str(name): place for name, place in content.items() if isinstance(place, str)} if is_table(content) else {}
        )


def refuse_missing_trackers(recipe: Recipe) -> None:
    """Raise `RecipeError` for a tracker that is not installed."""
    for index, name in enumerate(recipe.tracking.to):
        if not _is_installed(name):
            problem = Problem(
                f"the tracker '{name}' is not installed",
                hint=f"pip install 'fttool[{name}]'",
                key=("tracking", "to", index),
            )
            raise RecipeError(problem)


def _is_installed(name: str) -> bool:
    """True where it can be imported; a folder `wandb` that lies here is not a module."""
    if name in sys.modules:
        return True
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Tables and lists of tables as one: `schedule.name`, `data.train.0.path`; a list of plain values stays one."""
    if is_table(value) or (is_array(value) and any(map(is_table, value))):
        return {
            name: item
            for part, inner in children(value)
            for name, item in flat(inner, f"{key}.{part}" if key else str(part)).items()
        }
    return {key: value}


def _locked(lock: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What decides the result beside the recipe."""
    yield "versions.python", lock["python"]
    for name, version in lock["packages"].items():
        if version is not None:
            yield f"versions.{name}", version
    for plugin in lock["plugins"]:
        yield f"plugins.{plugin['name']}", f"{plugin['distribution']} {plugin['version']}"
    for name, code in lock["code"].items():
        yield f"code.{name}", code["sha256"]
    for file in lock["files"]:
        for kind in ("sha256", "fingerprint", "rows"):
            if kind in file:
                yield f"files.{file['table']}.{kind}", file[kind]
    for name, value in lock["model"].items():
        yield f"origin.{name}", value


def _is_number(key: str, value: Any) -> bool:
    return key not in ("step", "final") and isinstance(value, int | float)


def _named(key: str) -> str:
    """`eval_loss` as `eval/loss`, `retention_wiki_loss` as `retention/wiki_loss`, the rest as `train/…`."""
    kind, _, name = key.partition("_")
    return f"{kind}/{name}" if kind in ("eval", "retention") and name else f"train/{key}"
