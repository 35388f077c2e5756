"""Trackers as their libraries are, without a network: what they keep is read back with the libraries' own readers.

A run is stopped after three of its six updates and resumed; what is kept is one run, with each update's figures once.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tomli

from fttool.api import hookimpl
from fttool.testing import plugins, run_recipe
from fttool_plugins.verbs.report import observing

from ...rows import write_talks

ARTIFACTS = ["report.html", "summary.json", "model", "missing.txt"]
SECRET = "hf_0123456789abcdefghijklmnopqrstuvwx"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"there is no {name}: pip install 'fttool[{name}]'")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this user's accounts, a secret in the environment, and no network: who asks for one fails."""
    for name in [name for name in os.environ if name.startswith(("WANDB", "MLFLOW", "TRACKIO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")


class Stops:
    """Sends SIGTERM after the third update, once."""

    def __init__(self) -> None:
        self.done = False

    @hookimpl
    def fttool_logged(self, step: int) -> None:
        if step == 3 and not self.done:
            self.done = True
            os.kill(os.getpid(), signal.SIGTERM)


def tracked(recipe: dict[str, Any], folder: Path, tracker: str, capfd: pytest.CaptureFixture[str]) -> Any:
    """The run, stopped and resumed; nothing of it was written where its events may be read, and no secret anywhere."""
    write_talks(folder / "old.jsonl", 3)
    recipe["run"] |= {"max_steps": 6, "log_every": 1}
    recipe["data"] |= {"eval_share": 0.2, "retention": [{"path": "old.jsonl", "name": "old"}]}
    recipe["tracking"] = {"to": [tracker], "project": "answers", "artifacts": ARTIFACTS}
    recipe["plugins"] = {"observe": ["stops", "report"]}
    watching = plugins(stops=Stops(), report=observing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        assert run_recipe(recipe, folder, plugins=watching).exit_code == 143
        run = run_recipe(recipe, folder, plugins=watching, resume=True)
    assert run.exit_code == 0, run.error
    assert not [event for event in run.events if event["event"] == "tracker_failed"]
    assert any("no artifact 'missing.txt'" in event.get("text", "") for event in run.events)
    assert capfd.readouterr().out == ""
    for file in (file for file in folder.rglob("*") if file.is_file()):
        assert SECRET.encode() not in file.read_bytes(), file
    return run


def assert_logged(found: Mapping[str, Mapping[int, float]], run: Any) -> None:
    """Each of training's, evaluation's and retention's figures stands at its update."""
    for key, name in (("loss", "train/loss"), ("eval_loss", "eval/loss"), ("retention_old_loss", "retention/old_loss")):
        wanted = {line["step"]: line[key] for line in run.metrics if key in line}
        assert len(wanted) >= 2 and found[name] == pytest.approx(wanted, rel=1e-6), name


def assert_recipe(found: Mapping[str, Any], run: Any) -> None:
    recipe = tomli.loads((run.run_dir / "recipe.resolved.toml").read_text())
    assert str(found["optimizer.lr"]) == str(recipe["optimizer"]["lr"])
    assert str(found["data.retention.0.name"]) == "old"
    assert json.loads((run.run_dir / "lock.json").read_text())["packages"]["torch"] == found["versions.torch"]


def assert_kept(folder: Path, run: Any) -> None:
    """A folder of artifacts has the files that the run has, byte for byte."""
    model = {file.relative_to(run.run_dir) for file in (run.run_dir / "model").rglob("*") if file.is_file()}
    for name in (*model, "report.html", "summary.json"):
        assert (folder / name).read_bytes() == (run.run_dir / name).read_bytes(), name
    assert len(model) > 3 and b"<html" in (folder / "report.html").read_bytes()


@needs("mlflow")
@pytest.mark.full
def test_mlflow(tmp_path: Path, fttool_recipe: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    run = tracked(fttool_recipe, tmp_path, "mlflow", capfd)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.run_dir / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "answers"]
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.run_name, kept.info.status) == ("recipe", "FINISHED")
    assert_recipe(kept.data.params, run)
    history = {
        name: {one.step: one.value for one in client.get_metric_history(kept.info.run_id, name)}
        for name in kept.data.metrics
    }
    assert_logged(history, run)
    assert len(client.get_metric_history(kept.info.run_id, "train/loss")) == 6
    place = Path(client.download_artifacts(kept.info.run_id, "", str(tmp_path)))
    assert_kept(place, run)
    assert tomli.loads((place / "recipe.resolved.toml").read_text())["run"]["max_steps"] == 6


def framed(file: Path) -> Iterator[bytes]:
    """The records of a `.wandb` file: LevelDB's log format, whose blocks of 32 KiB begin before a header of 7 bytes."""
    content, place, parts = file.read_bytes(), 7, list[bytes]()
    assert content[:4] == b":W&B"
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts.clear()


@needs("wandb")
@pytest.mark.full
def test_wandb(
    tmp_path: Path,
    fttool_recipe: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    run = tracked(fttool_recipe, tmp_path, "wandb", capfd)
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted((run.run_dir / "wandb").glob("offline-run-*/*.wandb"))
    history: dict[str, dict[int, float]] = {}
    config: dict[str, Any] = {}
    codes, names, ids = list[int](), list[str](), set[str]()
    for file in files:
        for data in framed(file):
            record = Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
                assert (record.run.project, record.run.display_name) == ("answers", "recipe")
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                line = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
                for name, value in line.items():
                    history.setdefault(name, {}).setdefault(int(line["_step"]), value)
            elif kind == "exit":
                codes.append(record.exit.exit_code)
            elif kind == "artifact":
                names.append(record.artifact.name)
    assert len(files) == 2 and len(ids) == 1 and codes == [1, 0]
    assert_recipe(config, run)
    assert_logged(history, run)
    (number,) = ids
    assert set(names) == {f"{number}-{name}" for name in ("model", "report.html", "summary.json")}


@needs("trackio")
@pytest.mark.full
def test_trackio(
    tmp_path: Path,
    fttool_recipe: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))
    run = tracked(fttool_recipe, tmp_path, "trackio", capfd)
    import trackio

    (kept,) = trackio.Api().runs("answers")
    assert kept.name.startswith("recipe-")
    assert_recipe(kept.config, run)
    history: dict[str, dict[int, float]] = {}
    for line in trackio.SQLiteStorage.get_logs("answers", kept.name):
        for name, value in line.items():
            history.setdefault(name, {})[line["step"]] = value
    assert_logged(history, run)
    for name in ("report.html", "summary.json", "model"):
        trackio.use_artifact(f"{kept.name}-{name}").download(str(tmp_path / "got" / (name if name == "model" else "")))
    assert_kept(tmp_path / "got", run)


def test_tensorboard(tmp_path: Path, fttool_recipe: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    run = tracked(fttool_recipe, tmp_path, "tensorboard", capfd)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.run_dir / "tensorboard"))
    found.Reload()
    assert_logged({name: {e.step: e.value for e in found.Scalars(name)} for name in found.Tags()["scalars"]}, run)
