"""Experiment trackers: TensorBoard, Weights & Biases and MLflow, told what a run is and how it goes.

Each is told the resolved recipe (every table, as `table.key`), the versions of the libraries and plugins, the hashes of
rows and model, and each line of `metrics.jsonl`; nothing else, so nothing that is not so. transformers' own callbacks
record the Trainer's arguments, among which the schedule, the optimizer and the warmup are not those of the run.

What a tracker writes lies in the run directory, unless its own environment variables name a server. A resumed run goes
on in the same place. One that cannot begin ends the run before its first update, with a code of its own; one that fails
later is switched off and recorded, like an observer, and the run goes on.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tomli

from fttool.contracts.recipe import Recipe
from fttool.errors import Problem, RecipeError, TrackerError, gist
from fttool.plain import children, is_array, is_table

if TYPE_CHECKING:
    from fttool.events import Event
    from fttool.rundir.record import Record

PLACES = "tracking.json"
"""In the run directory: the tracker's own name of the run, by tracker, for one that is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a tracker is told when a run begins."""

    name: str
    """The run's."""
    project: str
    folder: Path
    """The run directory."""
    facts: Mapping[str, Any]
    """The resolved recipe and what `lock.json` says, flat."""
    recipe: str
    """The resolved recipe, as TOML."""
    step: int
    """Updates that are behind."""
    place: str | None
    """What `begin` returned when the run was begun; None for a run that begins."""


class Tracker(Protocol):
    """One place where a run is recorded."""

    def begin(self, told: Told) -> str:
        """Open it; returns by what it is found again."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of an update, named `train/loss`, `eval/accuracy` …"""
        ...

    def end(self, status: str) -> None:
        """The run has ended: `finished`, `interrupted`, `diverged` or `failed`."""
        ...


class TensorBoard:
    """Event files in `tensorboard/`; the facts are the text `recipe`."""

    def begin(self, told: Told) -> str:
        """Lines of updates that a resumed run makes again are struck out."""
        from torch.utils.tensorboard import SummaryWriter

        folder = told.folder / "tensorboard"
        self.writer = SummaryWriter(str(folder), purge_step=told.step + 1 if told.place else None)
        rows = "".join(f"| {key} | {_cell(value)} |\n" for key, value in told.facts.items())
        self.writer.add_text("recipe", f"{told.name} ({told.project})\n\n| key | value |\n|---|---|\n{rows}")
        return folder.name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def end(self, status: str) -> None:
        """Close the file."""
        self.writer.add_text("status", status)
        self.writer.close()


class WeightsAndBiases:
    """A run of wandb, with its files in `wandb/`; the facts are its config."""

    def begin(self, told: Told) -> str:
        """A resumed run has the id that it had."""
        os.environ.setdefault("WANDB_DISABLE_GIT", "true")  # whose configuration in this folder may name commands
        import wandb  # pyright: ignore[reportMissingImports]

        self.run: Any = wandb.init(
            project=told.project,
            name=told.name,
            id=told.place,
            resume="allow",
            dir=str(told.folder),
            config=dict(told.facts),
        )
        self.run.config.update(dict(told.facts), allow_val_change=True)
        return str(self.run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """History; of steps that it has already, wandb keeps the first."""
        self.run.log(dict(values), step=step)

    def end(self, status: str) -> None:
        """Its state on the server says whether the run finished."""
        self.run.summary["status"] = status
        self.run.finish(exit_code=int(status != "finished"))


class MLflow:
    """A run of MLflow, on the server of `MLFLOW_TRACKING_URI` or in `mlflow.db`, with files in `mlruns/`; the facts are
    its parameters.

    By its client: `mlflow.start_run` asks git about the folder that fttool itself lies in, and calls that the run's.
    """

    LONGEST = 500
    """Characters of a parameter that every MLflow takes; the recipe is there as a file too."""

    def begin(self, told: Told) -> str:
        """A resumed run has the id that it had; a parameter that has changed since becomes a tag."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient  # pyright: ignore
        from mlflow.entities import Param  # pyright: ignore

        server = os.environ.get("MLFLOW_TRACKING_URI")
        self.client: Any = MlflowClient(tracking_uri=server or f"sqlite:///{told.folder / 'mlflow.db'}")
        if told.place:
            self.run: str = told.place
            self.client.update_run(self.run, status="RUNNING")
        else:
            experiment = self._experiment(told.project, None if server else (told.folder / "mlruns").as_uri())
            self.run = str(self.client.create_run(experiment, run_name=told.name).info.run_id)
        known = dict(self.client.get_run(self.run).data.params)
        facts = {_bare(key): _cell(value)[: self.LONGEST] for key, value in told.facts.items()}
        new = [Param(key, value) for key, value in facts.items() if key not in known]
        for start in range(0, len(new), 100):  # as many as a server takes at once
            self.client.log_batch(self.run, params=new[start : start + 100])
        for key in known:
            if key in facts and facts[key] != known[key]:
                self.client.set_tag(self.run, f"resumed.{key}", facts[key])
        self.client.log_text(self.run, told.recipe, "recipe.resolved.toml")
        return self.run

    def _experiment(self, name: str, files: str | None) -> str:
        """Its id; it is made where there is none, by this run or by another one that is quicker."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(self.client.create_experiment(name, artifact_location=files))
            except Exception:
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        return str(experiment.experiment_id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics."""
        from mlflow.entities import Metric  # pyright: ignore

        now = time.time_ns() // 1_000_000
        self.client.log_batch(
            self.run, metrics=[Metric(_bare(name), value, now, step) for name, value in values.items()]
        )

    def end(self, status: str) -> None:
        """In MLflow's own words."""
        self.client.set_terminated(self.run, {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))


KNOWN = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


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
        """Close all of them."""
        self._call("end", lambda tracker: tracker.end(status))
        self._open.clear()

    def _call(self, what: str, call: Any) -> None:
        for name, tracker in list(self._open.items()):
            try:
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
                f"the tracker '{name}' is not installed", hint=f"pip install {name}", key=("tracking", "to", index)
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


def _bare(key: str) -> str:
    """With the characters that MLflow's names may have."""
    return re.sub(r"[^\w.\- /]", "_", key)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
