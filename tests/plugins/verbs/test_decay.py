"""Decaying from a stable checkpoint is the run that was planned like this, bit for bit; and the long run goes on."""

import json
import math
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from tomli_w import dumps

from fttool.api import (
    ExitCode,
    Factor,
    Regularization,
    Regularizer,
    RegularizerContext,
    Schedule,
    ScheduleContext,
    UsageError,
    hookimpl,
)
from fttool.cli import main
from fttool.recipe.reading import load
from fttool.testing import RunResult, plugins, run_recipe
from fttool.verbs import branch

from ...rows import write_talks
from ...runs import assert_same_state, timeless, weights, with_dropout

WSD = {"name": "wsd", "warmup": 2, "decay": 4}


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Fourteen updates of eight rows, five an epoch, stable from 2 to 10; with dropout and anchors."""
    write_talks(tmp_path / "rows.jsonl", 40)
    with_dropout(Path(fttool_recipe["model"]["source"]), tmp_path / "model")
    return {
        **fttool_recipe,
        "run": {"max_steps": 14, "micro_batch": 2, "global_batch": 8, "log_every": 1, "seed": 3},
        "model": {"source": "model"},
        "data": {"train": [{"path": "rows.jsonl", "format": "messages"}], "eval_share": 0.1},
        "batching": {"name": "bucketed", "max_length": 200},
        "optimizer": {"name": "adamw", "lr": 5e-3},
        "schedule": WSD,
        "regularizers": [{"name": "l2-init", "strength": 0.01}],
        "checkpoints": {"every": 3, "keep": 9},
        "evaluation": {"every": 2, "samples": 1, "sample_tokens": 4},
    }


def decay(run: RunResult, *words: str, name: str = "decayed") -> RunResult:
    """`fttool decay` in this process; it must work."""
    assert main(["decay", str(run.run_dir), "-q", "--name", name, *words]) == 0
    return RunResult(exit_code=ExitCode.OK, run_dir=run.run_dir.parent / name, error=None)


def assert_same(one: RunResult, other: RunResult, steps: int) -> None:
    """The same run but for its name and its clocks: metrics lines, summary, optimizer state and weights."""
    assert list(map(timeless, one.metrics)) == list(map(timeless, other.metrics))
    assert timeless(one.summary) == timeless(other.summary)
    assert_same_state(*(run.run_dir / "checkpoints" / f"checkpoint-{steps}" for run in (one, other)))
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key


def planned(recipe: dict[str, Any], folder: Path, step: int, steps: int, **schedule: Any) -> RunResult:
    """The run that was to decay after `step` updates from the start."""
    recipe = {**recipe, "run": {**recipe["run"], "max_steps": step + steps}}
    recipe["schedule"] = {"name": "wsd", "warmup": 2, "decay": steps, **schedule}
    run = run_recipe(recipe, folder, overrides=["run.name=planned"])
    assert run.error is None
    return run


# -- the same run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batching", ["packed", *(pytest.param(one, marks=pytest.mark.full) for one in ("padded", "bucketed"))]
)
@pytest.mark.parametrize(("step", "log_every"), [(6, 1), (9, 2)])
def test_it_is_the_run_that_was_planned_like_this(
    tmp_path: Path, recipe: dict[str, Any], batching: str, step: int, log_every: int
) -> None:
    """In the middle of an epoch; and between two lines, whose loss is the mean since the last one."""
    recipe["batching"]["name"] = batching
    recipe["run"] |= {"log_every": log_every, "global_batch": 4 if batching == "packed" else 8}
    run = run_recipe(recipe, tmp_path)
    decayed = decay(run, "--from", f"checkpoint-{step}", "--steps", "4")
    assert_same(decayed, planned(recipe, tmp_path, step, 4), step + 4)
    rates = {line["step"] - 1: line["lr"] for line in decayed.metrics if line["step"] > 2 and "lr" in line}
    expected = {update: 5e-3 * (1 - math.sqrt(max(update - step, 0) / 4)) for update in rates}
    assert rates == pytest.approx(expected, rel=1e-12)
    assert max(rates) > step + 1 and min(rates) < step


@pytest.mark.full
@pytest.mark.parametrize(
    ("schedule", "words", "expected"),
    [
        ({**WSD, "shape": "cosine", "min_lr": 5e-4}, [], {"shape": "cosine", "min_lr": 5e-4}),
        ({**WSD, "shape": "cosine"}, ["--shape", "linear"], {"shape": "linear"}),
        ({**WSD, "warmup": 0.1}, [], {}),  # 1.4 updates are 2
        ({"name": "constant", "warmup": 2}, [], {}),
        ({**WSD, "min_lr": 5e-3 * 0.1423}, [], {"min_lr": 5e-3 * 0.1423}),
    ],
    ids=["cosine", "another shape", "a share as warmup", "constant", "a floor that rounds"],
)
def test_the_schedule_is_the_runs_own_with_another_decay(
    tmp_path: Path, recipe: dict[str, Any], schedule: dict[str, Any], words: list[str], expected: dict[str, Any]
) -> None:
    recipe["schedule"] = schedule
    run = run_recipe(recipe, tmp_path)
    decayed = decay(run, "--from", "checkpoint-6", "--steps", "3", *words)
    assert_same(decayed, planned(recipe, tmp_path, 6, 3, **expected), 9)


class Shrinking:
    """Each update shrinks the weights by a share that only its state tells."""

    def __init__(self) -> None:
        self.updates = 0

    def __call__(self, model: Any, step: int) -> None:
        self.updates += 1
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 - 1e-3 * self.updates)

    def state_dict(self) -> dict[str, int]:
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.updates = state["updates"]


class Shrink(Regularizer):
    """A regularizer with state."""

    name: Literal["acme.shrink"] = "acme.shrink"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield `Shrinking`."""
        return Regularization(after_update=Shrinking())


@pytest.mark.full
def test_the_state_of_a_plugin_comes_along(tmp_path: Path, recipe: dict[str, Any]) -> None:
    acme = plugins(acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: [Shrink], specname="fttool_strategies")))
    recipe["regularizers"] = ["acme.shrink"]
    run = run_recipe(recipe, tmp_path, plugins=acme)
    loaded = load(run.run_dir / "recipe.resolved.toml", plugins=acme)
    overrides = {"run.name": "decayed", "run.max_steps": 9, "schedule": {**WSD, "decay": 3}}
    assert branch(loaded, 6, overrides, quiet=True) == 0
    decayed = RunResult(exit_code=ExitCode.OK, run_dir=run.run_dir.parent / "decayed", error=None)
    changed = {**recipe, "run": {**recipe["run"], "max_steps": 9}, "schedule": {**WSD, "decay": 3}}
    assert_same(decayed, run_recipe(changed, tmp_path, plugins=acme, overrides=["run.name=planned"]), 9)


@pytest.mark.full
def test_the_best_checkpoint_comes_along(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Up to the checkpoint update 2 was the best, and the decay is no better: the final weights are those of then.

    The run itself found better ones after the checkpoint, and still keeps what the checkpoint needs.
    """
    recipe["optimizer"]["lr"] = 1.0
    recipe["evaluation"] |= {"best": "loss"}
    recipe["checkpoints"] = {"every": 8, "keep": 1, "keep_stable": 2}
    run = run_recipe(recipe, tmp_path)
    assert run.summary["best"]["step"] == 14
    assert {path.name for path in (run.run_dir / "checkpoints").iterdir()} == {
        f"checkpoint-{step}" for step in (2, 8, 10, 14)
    }
    overrides = {"run.name": "decayed", "run.max_steps": 10, "schedule": {**WSD, "decay": 2, "min_lr": 0.99}}
    assert branch(load(run.run_dir / "recipe.resolved.toml"), 8, overrides, quiet=True) == 0
    decayed = RunResult(exit_code=ExitCode.OK, run_dir=run.run_dir.parent / "decayed", error=None)
    assert decayed.summary["best"]["step"] == 2
    assert_same(decayed, planned(recipe, tmp_path, 8, 2, min_lr=0.99), 10)
    shutil.rmtree(run.run_dir / "checkpoints" / "checkpoint-2")
    assert "there is no checkpoint-2" in refusal(run, "--from", "checkpoint-8", "--steps", "2")


@pytest.mark.full
def test_a_run_that_stopped_early_decays_to_the_end(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run did not improve before does not stop the decay, neither at once nor when it is resumed."""
    recipe["optimizer"]["lr"] = 1.0
    recipe["evaluation"] |= {"early_stopping": 3}
    run = run_recipe(recipe, tmp_path)
    assert run.summary["stopped_early"] and (run.summary["best"]["step"], run.summary["steps"]) == (2, 8)
    assert main(["decay", str(run.run_dir), "--steps", "4", "--name", "decayed"]) == 0
    assert "stopped early" not in capsys.readouterr().out
    decayed = RunResult(exit_code=ExitCode.OK, run_dir=run.run_dir.parent / "decayed", error=None)
    shutil.rmtree(decayed.run_dir / "checkpoints" / "checkpoint-9")
    shutil.rmtree(decayed.run_dir / "checkpoints" / "checkpoint-12")
    assert main(["run", str(decayed.run_dir / "recipe.resolved.toml"), "-q", "--resume"]) == 0
    assert (decayed.summary["steps"], decayed.summary["stopped_early"]) == (12, False)
    assert min(line["lr"] for line in decayed.metrics if "lr" in line) < 0.2
    assert main(["run", str(run.run_dir / "recipe.resolved.toml"), "--set", "run.name=again"]) == 0
    why = "  stopped early: loss was no better since update 2, in 3 evaluations in a row\n"
    assert f"again: finished after 8 of 14 updates\n{why}" in capsys.readouterr().out


@pytest.mark.full
def test_an_interrupted_decay_goes_on(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    whole = decay(run, "--from", "6", "--steps", "8", name="whole")
    decayed = decay(run, "--from", "6", "--steps", "8")
    for step in (9, 12, 14):  # as a crash in the first updates of the decay would have left it
        shutil.rmtree(decayed.run_dir / "checkpoints" / f"checkpoint-{step}")
    assert main(["run", str(decayed.run_dir / "recipe.resolved.toml"), "-q", "--resume"]) == 0
    (step,) = [event["step"] for event in decayed.events if event["event"] == "resumed"]
    assert step == 6
    assert_same(decayed, whole, 14)


def test_a_stopped_decay_says_how_it_goes_on(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Killer:
        @hookimpl
        def fttool_logged(self, step: int, values: dict[str, Any]) -> None:
            if step == 7 and "loss" in values:
                os.kill(os.getpid(), signal.SIGTERM)

    quiet = plugins(acme=SimpleNamespace(fttool_logged=hookimpl(lambda: None, specname="fttool_logged")))
    recipe["plugins"] = {"observe": ["acme"]}
    run = run_recipe(recipe, tmp_path, plugins=quiet)
    loaded = load(run.run_dir / "recipe.resolved.toml", plugins=plugins(acme=Killer()))
    overrides = {"run.name": "decayed", "run.max_steps": 10, "schedule": WSD}
    monkeypatch.chdir(tmp_path)
    assert branch(loaded, 6, overrides) == 143
    (way,) = [line for line in capsys.readouterr().out.splitlines() if "go on" in line]
    decayed = run.run_dir.parent / "decayed"
    words = shlex.split(way.removeprefix("  go on"))
    assert words == ["fttool", "run", str(decayed / "recipe.resolved.toml"), "--resume"]
    monkeypatch.setattr("fttool.recipe.reading.Plugins.discover", lambda: quiet)
    assert main([*words[1:], "-q"]) == 0
    assert json.loads((decayed / "summary.json").read_text())["steps"] == 10


# -- the long run --------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.full
def test_several_decays_branch_off_one_run_and_leave_it_alone(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    before = contents(run.run_dir)
    found = [decay(run, "--from", f"checkpoint-{step}", "--steps", "2", name=f"d{step}") for step in (3, 6, 9)]
    assert contents(run.run_dir) == before
    assert [one.summary["steps"] for one in found] == [5, 8, 11]
    for one, step in zip(found, (3, 6, 9), strict=True):
        origin = json.loads((one.run_dir / "lock.json").read_text())["origin"]
        manifest = json.loads((run.run_dir / "checkpoints" / f"checkpoint-{step}" / "complete.json").read_text())
        expected = {"run": str(run.run_dir), "checkpoint": f"checkpoint-{step}", "sha256": manifest["sha256"]}
        assert origin == expected
        (event,) = [event for event in one.events if event["event"] == "branched"]
        assert (event["run"], event["step"], event["total_steps"]) == (str(run.run_dir), step, step + 2)
    shutil.rmtree(run.run_dir)  # a decayed run does not need the one it came from
    shutil.rmtree(found[0].run_dir / "checkpoints" / "checkpoint-5")
    assert main(["run", str(found[0].run_dir / "recipe.resolved.toml"), "-q", "--resume"]) == 0


def test_the_newest_stable_checkpoint_is_the_default_and_so_is_a_name(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    assert main(["decay", str(run.run_dir), "-q", "--steps", "2"]) == 0
    made = run.run_dir.parent / "recipe-10-decay-2"
    assert json.loads((made / "summary.json").read_text())["steps"] == 12


@pytest.mark.full
def test_a_finished_wsd_run_goes_on_from_its_stable_phase(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """What had decayed stays, as a run directory of its own that can be asked and resumed."""
    recipe["checkpoints"] = {"every": 3, "keep": 2}
    run = run_recipe(recipe, tmp_path)
    short = contents(run.run_dir)
    assert {name.split("/")[1] for name in short if name.startswith("checkpoints/")} == {
        "checkpoint-10",  # the end of the stable phase
        "checkpoint-12",
        "checkpoint-14",
    }
    longer = ["run.max_steps=20"]
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert resumed.error is None
    (event,) = [event for event in resumed.events if event["event"] == "set_aside"]
    assert (event["step"], event["folder"]) == (10, "until-14")
    (tmp_path / "whole").mkdir()
    for name in ("model", "rows.jsonl"):
        (tmp_path / "whole" / name).symlink_to(tmp_path / name)
    assert_same(resumed, run_recipe(recipe, tmp_path / "whole", overrides=longer), 20)

    aside = contents(run.run_dir / "until-14")
    unmoved = {name for name in short if name.startswith("checkpoints/checkpoint-10/")}
    assert aside.keys() == short.keys() - unmoved
    appended = {"events.jsonl"}  # it says what was refused and why before anything is set aside
    assert {name for name in aside if aside[name] != short[name]} <= appended
    assert main(["generate", str(run.run_dir / "until-14"), "Row 1?", "--max-tokens", "1"]) == 0
    again = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert again.exit_code == 2 and "the run is complete" in str(again.error)


@pytest.mark.full
def test_a_run_goes_on_after_it_has_decayed_in_a_branch(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["schedule"] = {"name": "constant", "warmup": 2}
    recipe["run"]["max_steps"] = 6
    run = run_recipe(recipe, tmp_path)
    decayed = decay(run, "--steps", "2")
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=9"])
    assert resumed.error is None and resumed.summary["steps"] == 9
    assert not list(run.run_dir.glob("until-*"))  # the shorter run is the longer one's beginning
    later = decay(resumed, "--from", "checkpoint-9", "--steps", "2", name="later")
    assert decayed.summary["steps"] == 8 and later.summary["steps"] == 11
    assert_same(decay(resumed, "--from", "checkpoint-6", "--steps", "2", name="again"), decayed, 8)


@pytest.mark.full
def test_the_first_update_of_a_longer_run_has_the_longer_runs_rate(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """The shorter run ended where a cycle ends; in the longer one that update begins the next cycle at the peak."""
    recipe["schedule"] = {"name": "cosine-restarts", "warmup": 0, "first": 7}
    longer = ["run.max_steps=18"]
    assert run_recipe(recipe, tmp_path).error is None
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert resumed.error is None and not list(resumed.run_dir.glob("until-*"))
    (tmp_path / "whole").mkdir()
    for name in ("model", "rows.jsonl"):
        (tmp_path / "whole" / name).symlink_to(tmp_path / name)
    assert_same(resumed, run_recipe(recipe, tmp_path / "whole", overrides=longer), 18)
    assert next(line["lr"] for line in resumed.metrics if line["step"] == 15) == 5e-3


@pytest.mark.full
def test_a_crash_while_it_is_set_aside_is_made_good(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_recipe(recipe, tmp_path)
    short = contents(run.run_dir)
    rename: Callable[..., Path] = Path.rename
    calls = iter(range(10**6))

    def crash(self: Path, target: Path) -> Path:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    longer = ["run.max_steps=20"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert resumed.error is None and resumed.summary["steps"] == 20
    aside = contents(run.run_dir / "until-14")
    kept = [name for name in short if name.startswith(("checkpoints/checkpoint-12", "model/", "summary"))]
    assert kept and {name: aside.get(name) for name in kept} == {name: short[name] for name in kept}


@pytest.mark.parametrize(("keep_stable", "kept"), [(0, [14]), (1, [10, 14]), (3, [6, 9, 10, 14])])
def test_how_many_stable_checkpoints_stay(
    tmp_path: Path, recipe: dict[str, Any], keep_stable: int, kept: list[int]
) -> None:
    recipe["checkpoints"] = {"every": 3, "keep": 1, "keep_stable": keep_stable}
    run = run_recipe(recipe, tmp_path)
    found = sorted(int(path.name.removeprefix("checkpoint-")) for path in (run.run_dir / "checkpoints").iterdir())
    assert found == kept
    saved = [event["step"] for event in run.events if event["event"] == "checkpoint_saved"]
    assert saved == [3, 6, 9, *([10] if keep_stable else []), 12, 14]


def test_without_a_stable_checkpoint_a_finished_run_is_not_made_longer(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["checkpoints"] = {"keep": 1, "keep_stable": 0}
    run = run_recipe(recipe, tmp_path)
    before = contents(run.run_dir)
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=20"])
    assert refused.exit_code == 2
    text = str(refused.error)
    assert "run.max_steps was 14, is 20" in text
    assert "those of the first 11 updates do not, but the oldest checkpoint has step 14" in text
    assert "keep_stable = 1" in text
    with pytest.raises(UsageError, match="has no checkpoint in its stable phase"):
        decay_of(run, "--steps", "2")
    assert contents(run.run_dir) == before


def test_a_longer_run_needs_a_whole_checkpoint_of_the_stretch_that_stays(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    recipe["checkpoints"] = {"keep": 1}
    run = run_recipe(recipe, tmp_path)
    (run.run_dir / "checkpoints" / "checkpoint-10" / "trained.safetensors").write_bytes(b"?")
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=20"])
    assert refused.exit_code == 2
    assert "no checkpoint of the first 11 updates, whose rates stay the same, is intact" in str(refused.error)
    assert not list(run.run_dir.glob("until-*"))


# -- what is refused -----------------------------------------------------------------------------------------------


def decay_of(run: RunResult, *words: str) -> None:
    """The verb itself, so that what it raises can be seen."""
    from fttool_plugins.verbs.decay import main as verb

    verb([str(run.run_dir), "-q", *words])


@pytest.fixture
def finished(tmp_path: Path, recipe: dict[str, Any]) -> RunResult:
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    return run


def refusal(run: RunResult, *words: str) -> str:
    """The words with which the verb refuses; nothing is written."""
    before = {path for path in run.run_dir.parent.rglob("*") if path.name != "events.jsonl"}
    with pytest.raises(UsageError) as refused:
        decay_of(run, *words)
    assert {path for path in run.run_dir.parent.rglob("*") if path.name != "events.jsonl"} == before
    assert refused.value.exit_code == 2
    return str(refused.value)


def test_a_checkpoint_outside_the_stable_phase(finished: RunResult) -> None:
    text = refusal(finished, "--from", "checkpoint-12", "--steps", "2")
    assert "checkpoint-12" in text and "lies outside the stable phase" in text
    assert "checkpoint-3, checkpoint-6, checkpoint-9, checkpoint-10" in text


@pytest.mark.parametrize("asked", ["checkpoint-7", "7", "newest", "checkpoints/checkpoint-7"])
def test_a_checkpoint_that_is_not_there(finished: RunResult, asked: str) -> None:
    text = refusal(finished, "--from", asked, "--steps", "2")
    assert f"has no checkpoint '{asked}'" in text
    assert "checkpoint-3, checkpoint-6, checkpoint-9, checkpoint-10, checkpoint-12, checkpoint-14" in text


@pytest.mark.parametrize("file", ["trained.safetensors", "optimizer.pt", "scheduler.pt", "complete.json"])
def test_a_damaged_checkpoint(finished: RunResult, file: str) -> None:
    path = finished.run_dir / "checkpoints" / "checkpoint-6" / file
    path.write_bytes(path.read_bytes()[:-9])
    text = refusal(finished, "--from", "checkpoint-6", "--steps", "2")
    assert "checkpoint-6" in text and file in text


def test_a_target_that_exists(finished: RunResult) -> None:
    decay(finished, "--from", "6", "--steps", "2", name="there")
    before = contents(finished.run_dir.parent / "there")
    text = refusal(finished, "--from", "6", "--steps", "2", "--name", "there")
    assert "exists; it is never overwritten" in text and "--name" in text and "--resume" in text
    assert contents(finished.run_dir.parent / "there") == before


def test_rows_or_a_model_that_have_changed(finished: RunResult, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    text = rows.read_text()
    rows.write_text(text.replace("Row 1?", "Row one?"))
    assert "the rows of data.train.0 have changed" in refusal(finished, "--steps", "2")
    rows.write_text(text)
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("0.2", "0.1"))
    assert "the model or its tokenizer has changed" in refusal(finished, "--steps", "2")


@pytest.mark.parametrize("word", ["run.max_steps=100", "run.name=x", "schedule.name=linear", "schedule={}", "run={}"])
def test_what_it_decides_itself_cannot_be_set(finished: RunResult, word: str) -> None:
    assert f"--set {word.partition('=')[0]} has no effect here" in refusal(finished, "--steps", "2", "--set", word)


def test_a_folder_that_is_no_run(finished: RunResult, tmp_path: Path) -> None:
    nowhere = RunResult(exit_code=ExitCode.OK, run_dir=tmp_path / "nowhere", error=None)
    with pytest.raises(UsageError, match="is not a run directory"):
        decay_of(nowhere, "--steps", "2")


def test_a_schedule_without_a_stable_phase(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["schedule"] = {"name": "cosine", "warmup": 3}
    run = run_recipe(recipe, tmp_path)
    for words in (["--steps", "2"], ["--from", "checkpoint-3", "--steps", "2"]):
        text = refusal(run, *words)
        assert "its schedule 'cosine' never holds its peak" in text and "wsd or constant" in text


def test_freezing_that_depends_on_the_length(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["freezing"] = {"name": "gradual", "every": 0.3}
    run = run_recipe(recipe, tmp_path)
    text = refusal(run, "--from", "6", "--steps", "2")
    assert "cannot decay to update 8: what freezing 'gradual' trains depends on the run's length" in text
    assert "after 14 updates" in text and "--set" not in text
    assert decay(run, "--from", "6", "--steps", "8").summary["steps"] == 14  # as long as it was planned


class Trapezoid(Schedule):
    """Climb in another way than wsd, then hold."""

    name: Literal["acme.trapezoid"] = "acme.trapezoid"

    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield (t + 1)/4 up to 1."""
        return lambda step: min((step + 1) / 4, 1.0)


def test_a_climb_that_wsd_has_not(tmp_path: Path, recipe: dict[str, Any]) -> None:
    acme = plugins(acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: [Trapezoid], specname="fttool_strategies")))
    run = run_recipe(recipe, tmp_path, plugins=acme, overrides=["schedule.name=acme.trapezoid"])
    loaded = load(run.run_dir / "recipe.resolved.toml", plugins=acme)
    overrides = {"run.name": "decayed", "run.max_steps": 8, "schedule": {**WSD, "warmup": 3, "decay": 2}}
    with pytest.raises(UsageError, match=r"update 1 of .* had another rate than the new run's schedule gives it"):
        branch(loaded, 6, overrides, quiet=True)
    assert not (run.run_dir.parent / "decayed").exists()


@pytest.mark.parametrize("steps", ["0", "-3", "many", "1.5", "1"])
def test_steps_that_are_none(finished: RunResult, steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        decay_of(finished, "--steps", steps)
    assert exited.value.code == 2
    assert " is not a " in capsys.readouterr().err


def test_its_events_end_with_how_it_ended(finished: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["decay", str(finished.run_dir), "--json", "--steps", "2"]
    assert main([*words, "--name", "fine"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "summary" and events[-1]["summary"]["steps"] == 12
    assert main([*words, "--name", "../out"]) == 3
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "failed" and events[-1]["exit_code"] == 3


def test_a_run_that_is_moved_still_decays(tmp_path: Path, recipe: dict[str, Any]) -> None:
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    run = run_recipe(recipe, tmp_path)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(run.run_dir, moved)
    decayed = decay(RunResult(exit_code=ExitCode.OK, run_dir=moved, error=None), "--from", "6", "--steps", "2")
    assert decayed.summary["steps"] == 8
