"""The trackers that fttool knows, each of its library's own making: TensorBoard, Weights & Biases, MLflow, trackio."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


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

    def keep(self, artifact: Path) -> None:
        """A file or folder of the run directory, once the run has ended; nothing where the tracker keeps none."""
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

    def keep(self, artifact: Path) -> None:
        """Nothing: event files hold numbers and texts."""

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

    def keep(self, artifact: Path) -> None:
        """An artifact of the run, named after both."""
        import wandb  # pyright: ignore[reportMissingImports]

        kept: Any = wandb.Artifact(_plain(f"{self.run.id}-{artifact.name}"), type=_kind(artifact))
        (kept.add_dir if artifact.is_dir() else kept.add_file)(str(artifact))
        self.run.log_artifact(kept)

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
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
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

    def keep(self, artifact: Path) -> None:
        """An artifact under its own name."""
        if artifact.is_dir():
            self.client.log_artifacts(self.run, str(artifact), artifact.name)
        else:
            self.client.log_artifact(self.run, str(artifact))

    def end(self, status: str) -> None:
        """In MLflow's own words."""
        self.client.set_terminated(self.run, {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))


class Trackio:
    """A run of trackio, in the folder of `TRACKIO_DIR` or that of all its projects, where `trackio show` finds it."""

    def begin(self, told: Told) -> str:
        """A resumed run has the name that it had: by that alone trackio finds it, so no other run has it."""
        import trackio  # pyright: ignore[reportMissingImports]

        self.run: Any = trackio.init(
            project=told.project,
            name=told.place or f"{told.name}-{secrets.token_hex(3)}",
            resume="must" if told.place else "never",
            config=dict(told.facts),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return str(self.run.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics."""
        self.run.log(dict(values), step=step)

    def keep(self, artifact: Path) -> None:
        """An artifact of the project, named after the run."""
        name = _plain(f"{self.run.name}-{artifact.name}")
        self.run.log_artifact(artifact, name=name, type=_kind(artifact))

    def end(self, status: str) -> None:
        """Write what is not written yet."""
        self.run.finish()


KNOWN: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def _bare(key: str) -> str:
    """With the characters that MLflow's names may have."""
    return re.sub(r"[^\w.\- /]", "_", key)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _plain(name: str) -> str:
    """With the characters that names of artifacts may have."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "-", name)


def _kind(artifact: Path) -> str:
    """The type of an artifact."""
    return "model" if artifact.name == "model" else "run"
