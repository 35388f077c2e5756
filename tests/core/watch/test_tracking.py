"""What trackers are told is the recipe that ran, and what the run logged; in one place, resumed or not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tomli

from fttool.api import hookimpl
from fttool.recipe.reading import load
from fttool.testing import plugins, run_recipe
from fttool.watch import trackers, tracking

UNTRUE = ("lr_scheduler_type", "adamw_torch", "num_train_epochs", "per_device_train_batch_size", "warmup_steps")
"""What the Trainer's arguments say; core decides all of it without them."""


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    fttool_recipe["run"] |= {"max_steps": 6, "log_every": 1}
    fttool_recipe["schedule"] = {"name": "wsd", "warmup": 2, "decay": 2}
    fttool_recipe["optimizer"] = {"name": "adafactor", "lr": 1e-3}
    return fttool_recipe


class Stops:
    """Sends SIGTERM after the third update, once."""

    def __init__(self) -> None:
        self.done = False

    @hookimpl
    def fttool_logged(self, step: int) -> None:
        if step == 3 and not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGTERM)


def stopped_and_resumed(recipe: dict[str, Any], folder: Path, tracker: str, *changed: str) -> Any:
    recipe["tracking"] = {"to": [tracker], "project": "answers"}
    recipe["plugins"] = {"observe": ["acme"]}
    stops = plugins(acme=Stops())
    assert run_recipe(recipe, folder, plugins=stops).exit_code == 143
    run = run_recipe(recipe, folder, plugins=stops, overrides=changed, resume=True)
    assert run.exit_code == 0, run.error
    return run


def leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Every plain value of a recipe by its path: a twin of `flat`, which keeps lists of plain values whole."""
    if isinstance(value, dict):
        parts = [leaves(inner, f"{key}.{name}") for name, inner in value.items()]
    elif isinstance(value, list):
        parts = [leaves(inner, f"{key}.{place}") for place, inner in enumerate(value)]
    else:
        return {key.lstrip("."): value}
    return {name: inner for part in parts for name, inner in part.items()}


def plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def assert_told(facts: dict[str, Any], run: Any) -> None:
    """All of the resolved recipe, the versions and the hashes, and nothing of the Trainer's."""
    wanted = leaves(tomli.loads((run.run_dir / "recipe.resolved.toml").read_text()))
    told = leaves({key: json.loads(v) if isinstance(v, str) and v.startswith("[") else v for key, v in facts.items()})
    assert {key: plain(told.get(key)) for key in wanted} == {key: plain(value) for key, value in wanted.items()}
    assert (facts["schedule.name"], facts["optimizer.name"]) == ("wsd", "adafactor")
    lock = json.loads((run.run_dir / "lock.json").read_text())
    assert facts["versions.torch"] == lock["packages"]["torch"]
    (rows,) = [file for file in lock["files"] if file["table"] == "data.train.0"]
    source = Path(rows["source"])
    assert facts["files.data.train.0.sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert facts["plugins.acme"].startswith("fttool-acme ")
    assert facts["code.fttool"] == lock["code"]["fttool"]["sha256"]
    assert not [name for name in UNTRUE if name in facts or name in map(str, facts.values())]


def logged(run: Any) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in run.metrics if "loss" in line}


def test_tensorboard(tmp_path: Path, recipe: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = stopped_and_resumed(recipe, tmp_path, "tensorboard")
    found = EventAccumulator(str(run.run_dir / "tensorboard"))
    found.Reload()
    text = found.Tensors("recipe/text_summary")[-1].tensor_proto.string_val[0].decode()
    cells = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| "))
    assert_told(cells, run)
    scalars = {event.step: event.value for event in found.Scalars("train/loss")}
    assert scalars == pytest.approx(logged(run), rel=1e-6) and len(found.Scalars("train/loss")) == len(scalars) == 6
    assert "train/lr" in found.Tags()["scalars"]
    assert {path.name for path in run.run_dir.iterdir() if path.is_dir()} >= {"tensorboard"}
    assert not (run.run_dir / "runs").exists()


class FakeWandb(ModuleType):
    """Keeps what it is told, by run, as the service does."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: dict[str, Any] = {}

    def init(self, *, project: str, name: str, id: str | None, resume: str, dir: str, config: dict[str, Any]) -> Any:
        assert resume == "allow" and Path(dir).is_dir()
        run = self.runs.setdefault(id or "first", SimpleNamespace(history={}, summary={}, began=[], codes=[]))
        run.began.append((project, name, dir))
        run.id, run.config = id or "first", SimpleNamespace(values=dict(config))
        run.config.update = lambda more, allow_val_change: run.config.values.update(more)
        run.log = lambda values, step: run.history.setdefault(step, {}).update(values)
        run.finish = lambda exit_code: run.codes.append(exit_code)
        return run


def test_wandb(tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run = stopped_and_resumed(recipe, tmp_path, "wandb")
    (told,) = wandb.runs.values()
    assert told.began == [("answers", "recipe", str(run.run_dir))] * 2
    assert_told(told.config.values, run)
    assert {step: line["train/loss"] for step, line in told.history.items()} == logged(run)
    assert told.codes == [1, 0] and told.summary["status"] == "finished"


class FakeClient:
    """Refuses what MLflow refuses: another value for a parameter, long values, odd names, more than 100 at once."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.asked: list[str] = []

    def get_experiment_by_name(self, name: str) -> Any:
        return self.experiments.get(name)

    def create_experiment(self, name: str, *, artifact_location: str | None) -> str:
        assert name not in self.experiments
        self.experiments[name] = SimpleNamespace(experiment_id=name, artifact_location=artifact_location)
        return name

    def create_run(self, experiment_id: str, *, run_name: str) -> Any:
        data = SimpleNamespace(params={}, tags={}, metrics={}, texts={})
        info = SimpleNamespace(run_id=f"id-{len(self.runs)}", experiment_id=experiment_id)
        return self.runs.setdefault(info.run_id, SimpleNamespace(info=info, data=data, name=run_name, ends=[]))

    def get_run(self, run_id: str) -> Any:
        return self.runs[run_id]

    def update_run(self, run_id: str, *, status: str) -> None:
        self.runs[run_id].ends.append(status)

    def log_batch(self, run_id: str, *, params: Any = (), metrics: Any = ()) -> None:
        assert len(params) <= 100 and all(len(value) <= 500 for _, value in params)
        data = self.runs[run_id].data
        for key, value in params:
            assert data.params.setdefault(key, value) == value
        for key, value, at, step in metrics:
            assert at > 1.7e12  # in milliseconds
            data.metrics.setdefault(step, {})[key] = value

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].data.tags[key] = value

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.runs[run_id].data.texts[name] = text

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].ends.append(status)


def fake_mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient()
    mlflow, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    mlflow.MlflowClient = lambda tracking_uri: client.asked.append(tracking_uri) or client  # type: ignore[attr-defined]
    entities.Param = entities.Metric = lambda *values: values  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return client


def test_mlflow(tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    client = fake_mlflow(monkeypatch)
    run = stopped_and_resumed(recipe, tmp_path, "mlflow", "checkpoints.keep=5")
    (told,) = client.runs.values()
    assert told.name == "recipe" and told.ends == ["KILLED", "RUNNING", "FINISHED"]
    assert set(client.asked) == {f"sqlite:///{run.run_dir / 'mlflow.db'}"}
    (experiment,) = client.experiments.items()
    assert experiment[0] == told.info.experiment_id == "answers"
    assert experiment[1].artifact_location == (run.run_dir / "mlruns").as_uri()
    assert told.data.tags == {"resumed.checkpoints.keep": "5"} and told.data.params["checkpoints.keep"] == "2"
    assert_told({**told.data.params, "checkpoints.keep": "5"}, run)
    assert {step: line["train/loss"] for step, line in told.data.metrics.items()} == logged(run)
    begun_with = tomli.loads((run.run_dir / "recipe.resolved.toml").read_text())
    assert tomli.loads(told.data.texts["recipe.resolved.toml"]) == begun_with


def test_mlflow_on_a_server_where_another_run_makes_the_project_first(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    client = fake_mlflow(monkeypatch)
    made = client.create_experiment

    def slower(name: str, *, artifact_location: str | None) -> str:
        assert artifact_location is None  # the server's own
        made(name, artifact_location="the other's")
        raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    monkeypatch.setattr(client, "create_experiment", slower)
    recipe["tracking"] = {"to": ["mlflow"], "project": "answers"}
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 0, run.error
    assert client.asked == ["https://mlflow.example.org"] and client.runs["id-0"].ends == ["FINISHED"]


def test_one_that_cannot_begin_ends_the_run_before_the_first_update(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> Any:
        raise RuntimeError("api_key not configured")

    wandb = ModuleType("wandb")
    wandb.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    recipe["tracking"] = {"to": ["wandb"]}
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 10 and run.summary["steps"] == 0
    said = str(run.error)
    assert "the tracker 'wandb' cannot begin: RuntimeError: api_key not configured" in said and "tracking.to=[]" in said


def test_one_that_fails_later_is_switched_off_and_the_run_goes_on(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaks(trackers.TensorBoard):
        def log(self, step: int, values: Any) -> None:
            if step == 2:
                raise ConnectionError("the server has gone")

    monkeypatch.setitem(trackers.KNOWN, "tensorboard", Breaks)
    recipe["tracking"] = {"to": ["tensorboard"]}
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 0 and run.summary["status"] == "finished"
    (event,) = [event for event in run.events if event["event"] == "tracker_failed"]
    assert (event["tracker"], event["during"]) == ("tensorboard", "log") and "has gone" in event["error"]


def test_a_folder_of_the_trackers_name_is_not_the_tracker(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    # what is found where it is not installed
    monkeypatch.setattr(tracking, "find_spec", lambda name: PathFinder.find_spec(name, [str(tmp_path)]))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    recipe["tracking"] = {"to": ["wandb"]}
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 3 and "the tracker 'wandb' is not installed" in str(run.error)
    assert not run.run_dir.exists()


def test_every_key_of_a_recipe_is_flat(tmp_path: Path) -> None:
    text = 'recipe = 1\n[model]\nsource = "builtin:tiny-chat"\n[[data.train]]\npath = "r.jsonl"\n'
    (tmp_path / "r.toml").write_text(text)
    from fttool.rundir.record import resolved

    data = tomli.loads(resolved(load(tmp_path / "r.toml")))
    assert leaves(tracking.flat(data)) == leaves(data)
