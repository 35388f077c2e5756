"""A run from recipe to run directory: what it computes, what it writes, and how it ends."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from tomli_w import dumps

from fttool.api import (
    ExitCode,
    Measure,
    Metric,
    MetricContext,
    Regularization,
    Regularizer,
    RegularizerContext,
    UsageError,
    hookimpl,
)
from fttool.cli import main
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.rundir.record import Record, lock, with_seal
from fttool.runs.resume import refuse_differences
from fttool.testing import RunResult, plugins, run_recipe
from fttool.verbs import initial_weights, load_run

from ...rows import write_talks
from ...runs import (
    assert_same_state,
    assert_same_weights,
    cut_back,
    losses,
    resumed_from,
    timeless,
    weights,
    with_dropout,
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows whose answers differ in length, so that a mean of means is not the mean."""
    return write_talks(tmp_path / "mixed.jsonl", 40)


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], rows: Path) -> dict[str, Any]:
    """Eight updates of eight rows, a little over one and a half epochs."""
    fttool_recipe["run"] = {"max_steps": 8, "micro_batch": 2, "global_batch": 8, "log_every": 1, "seed": 3}
    fttool_recipe["data"] = {"train": [{"path": str(rows), "format": "messages"}], "eval_share": 0.1}
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 5e-3}
    fttool_recipe["evaluation"] = {"samples": 1, "sample_tokens": 4}
    return fttool_recipe


# -- what is computed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", ["padded", "bucketed", "packed"])
def test_accumulation_1x8_equals_8x1(tmp_path: Path, recipe: dict[str, Any], batching: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(dumps(recipe))
    found: dict[int, tuple[dict[str, torch.Tensor], list[float]]] = {}
    for micro_batch in (1, 8):
        run_dir = tmp_path / f"micro-{micro_batch}"
        words = [f"run.micro_batch={micro_batch}", f"run.name={run_dir.name}", f"run.output={tmp_path}"]
        words += ["evaluation.micro_batch=4", f"batching={{name='{batching}',max_length=128}}"]
        assert main(["run", str(file), "-q", *[part for word in words for part in ("--set", word)]]) == 0
        run = RunResult(exit_code=ExitCode.OK, run_dir=run_dir, error=None)
        found[micro_batch] = weights(run), losses(run)
    (one, one_losses), (eight, eight_losses) = found[1], found[8]
    assert one_losses == pytest.approx(eight_losses, rel=1e-5)
    for name in one:
        torch.testing.assert_close(one[name], eight[name], rtol=0, atol=1e-5)


def test_every_row_is_met_once_per_epoch(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["run"] = {"epochs": 2, "micro_batch": 2, "global_batch": 8}
    summary = run_recipe(recipe, tmp_path).summary
    assert summary["train_rows"] + summary["eval_rows"] == 40
    assert summary["steps"] == 2 * -(-summary["train_rows"] // 8)
    assert summary["epochs"] == 2
    described = dry_run(tmp_path, recipe)
    assert summary["train_tokens"] == 2 * described["tokens"]["train"]
    assert summary["label_tokens"] == 2 * described["tokens"]["learned"]


def dry_run(tmp_path: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    file, output = tmp_path / "dry.toml", io.StringIO()
    file.write_text(dumps(recipe))
    with contextlib.redirect_stdout(output):
        assert main(["run", str(file), "--dry-run", "--json", "--set", f"run.output={tmp_path / 'dry'}"]) == 0
    assert not list(tmp_path.glob("dry/*"))
    return json.loads(output.getvalue().splitlines()[-1])["summary"]


def test_the_loss_falls_and_the_summary_says_so(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["evaluation"]["metrics"] = ["loss", "perplexity", "token-accuracy"]
    summary = run_recipe(recipe, tmp_path).summary
    before, after = summary["eval"]["before"], summary["eval"]["after"]
    assert after["loss"] < before["loss"]
    assert after["perplexity"] == pytest.approx(2.718281828459045 ** after["loss"])
    assert after["token-accuracy"] > before["token-accuracy"]
    assert summary["tokens_per_second"] > 0 and summary["peak_memory_bytes"] > 2**20
    (rank,) = summary["sharding"]["ranks"]
    assert rank["parameter_bytes"] == rank["gradient_bytes"] == 4 * summary["parameters"]
    assert rank["optimizer_bytes"] >= 8 * summary["parameters"]
    assert 2**20 < rank["peak_memory_bytes"] <= summary["peak_memory_bytes"]


def test_a_run_that_saves_nothing_is_logged_and_measured_all_the_same(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["evaluation"] |= {"every": 3, "best": "loss"}
    recipe["checkpoints"] = {"every": 2}
    saving = run_recipe(recipe, tmp_path, overrides=["evaluation.best=loss"])
    words = ["run", str(tmp_path / "recipe.toml"), "--no-save"]
    run = RunResult(exit_code=ExitCode.OK, run_dir=tmp_path / "other" / "recipe", error=None)
    assert main([*words, "--set", f"run.output={tmp_path / 'other'}"]) == 0
    assert "saved  no model" in capsys.readouterr().out
    assert losses(run) == losses(saving) and run.summary["status"] == "finished"
    assert run.summary["eval"]["before"] == saving.summary["eval"]["before"]
    assert not (run.run_dir / "model").exists() and not list((run.run_dir / "checkpoints").iterdir())
    assert "checkpoint_saved" not in {event["event"] for event in run.events}
    assert main([*words, "--resume"]) == 2
    assert "--no-save cannot be combined" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize("change", ["run.workers=2", "model.gradient_checkpointing=true", "model.attention=eager"])
def test_what_must_not_change_the_result_does_not(tmp_path: Path, recipe: dict[str, Any], change: str) -> None:
    plain = run_recipe(recipe, tmp_path)
    other = run_recipe(recipe, tmp_path, overrides=[change, "run.name=other"])
    assert losses(plain) == pytest.approx(losses(other), rel=1e-6)


def test_bf16_computes_in_bf16_over_float32_weights(tmp_path: Path, recipe: dict[str, Any]) -> None:
    plain = run_recipe(recipe, tmp_path)
    half = run_recipe(recipe, tmp_path, overrides=["precision.name=bf16", "run.name=half"])
    assert losses(plain) != losses(half) and losses(plain) == pytest.approx(losses(half), rel=0.02)
    assert {tensor.dtype for tensor in weights(half).values()} == {torch.float32}
    assert "bf16" in half.summary["precision"]


def test_accelerates_environment_does_not_outvote_the_recipe(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` sets these, and transformers would compute in bf16 whatever it is told."""
    plain = run_recipe(recipe, tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    assert losses(run_recipe(recipe, tmp_path, overrides=["run.name=launched"])) == losses(plain)


# -- resume ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", ["padded", "bucketed", "packed"])
@pytest.mark.parametrize("step", [3, 6])
def test_a_resumed_run_is_bitwise_equal(tmp_path: Path, recipe: dict[str, Any], batching: str, step: int) -> None:
    """With dropout, in the middle of an epoch and in the next one, with anchors in the optimizer."""
    with_dropout(Path(recipe["model"]["source"]), tmp_path / "model")
    recipe["model"] = {"source": "model"}
    recipe["batching"] = {"name": batching, "max_length": 200}
    recipe["run"]["global_batch"] = 4 if batching == "packed" else 8
    recipe["regularizers"] = [{"name": "l2-init", "strength": 0.01}]
    recipe["checkpoints"] = {"every": 3, "keep": 9}
    recipe["evaluation"]["every"] = 2
    whole = run_recipe(recipe, tmp_path)
    assert whole.error is None
    resumed = resumed_from(whole, recipe, tmp_path / "resumed", step)
    assert_same_weights(whole, resumed)
    assert losses(whole) == losses(resumed)
    assert [line["step"] for line in whole.metrics] == [line["step"] for line in resumed.metrics]
    assert_same_state(*(run.run_dir / "checkpoints" / "checkpoint-8" for run in (whole, resumed)))
    assert timeless(whole.summary) == timeless(resumed.summary)


class Shrinking:
    """Each update shrinks the weights by a share that depends on what was before, which only its state tells."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())
        self.updates = 0

    def __call__(self, model: Any, step: int) -> None:
        self.updates += 1
        with torch.no_grad():
            size = torch.stack([parameter.abs().mean() for parameter in model.parameters()]).mean()
            self.mean = 0.7 * self.mean + 0.3 * size
            for parameter in model.parameters():
                parameter.mul_(1 - 1e-3 * self.updates * self.mean)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean, self.updates = state["mean"], state["updates"]


class Shrink(Regularizer):
    """A regularizer with state."""

    name: Literal["acme.shrink"] = "acme.shrink"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield `Shrinking`."""
        return Regularization(after_update=Shrinking())


def test_the_state_of_a_plugin_is_resumed_bitwise(tmp_path: Path, recipe: dict[str, Any]) -> None:
    acme = plugins(acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: [Shrink], specname="fttool_strategies")))
    recipe["regularizers"] = ["acme.shrink"]
    recipe["checkpoints"] = {"every": 3, "keep": 9}
    whole = run_recipe(recipe, tmp_path, plugins=acme)
    (tmp_path / "resumed").mkdir()
    cut_back(whole, tmp_path / "resumed" / "runs" / "recipe", 3)  # in the middle of the first epoch
    resumed = run_recipe(recipe, tmp_path / "resumed", plugins=acme, resume=True)
    assert resumed.error is None and losses(whole) == losses(resumed)
    assert_same_weights(whole, resumed)


@pytest.mark.full
def test_a_killed_run_is_resumed_bitwise(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["run"] |= {"max_steps": 120, "micro_batch": 8}
    recipe["checkpoints"] = {"every": 25, "keep": 9}
    whole = run_recipe(recipe, tmp_path)
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "recipe.toml").write_text(dumps(recipe))
    words = [sys.executable, "-m", "fttool", "run", str(killed / "recipe.toml"), "-q"]
    process = subprocess.Popen([*words, "--set", f"run.output={killed / 'runs'}"])
    events = killed / "runs" / "recipe" / "events.jsonl"
    while process.poll() is None and not (events.exists() and "checkpoint_saved" in events.read_text()):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    resumed = run_recipe(recipe, killed, resume=True)
    assert resumed.error is None
    (step,) = [event["step"] for event in resumed.events if event["event"] == "resumed"]
    assert 25 <= step < 120
    assert [event["event"] for event in resumed.events].count("ended") == 1
    assert_same_weights(whole, resumed)


def test_dropout_is_really_on_above(tmp_path: Path, recipe: dict[str, Any]) -> None:
    plain = run_recipe(recipe, tmp_path)
    shutil.copytree(recipe["model"]["source"], tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    recipe["model"] = {"source": "model"}
    dropped = run_recipe(recipe, tmp_path, overrides=["run.name=dropped"])
    assert losses(plain)[0] != losses(dropped)[0]


def test_another_recipe_or_other_rows_are_refused_with_the_differences(
    tmp_path: Path, recipe: dict[str, Any], rows: Path
) -> None:
    assert run_recipe(recipe, tmp_path).exit_code == 0
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["optimizer.lr=1e-3", "run.max_steps=10"])
    assert refused.exit_code == 2 and refused.error is not None
    text = str(refused.error)
    assert "optimizer.lr was 0.005, is 0.001" in text
    assert "run.max_steps was 8, is 10" in text and "'cosine' depend on the run's length" in text
    way = re.search(r"begin a new run with its model: (--set run.name)=… --set (model.source=\S+)", text)
    assert way is not None
    longer = run_recipe(recipe, tmp_path, overrides=["run.name=longer", way[2], "run.max_steps=10"])
    assert longer.exit_code == 0 and longer.summary["steps"] == 10
    rows.write_text(rows.read_text().replace("Row 1?", "Row one?"))
    refused = run_recipe(recipe, tmp_path, resume=True)
    assert refused.exit_code == 2 and "have changed" in str(refused.error)


def test_another_model_is_refused_and_another_library_is_said(tmp_path: Path, recipe: dict[str, Any]) -> None:
    shutil.copytree(recipe["model"]["source"], tmp_path / "model")
    recipe["model"] = {"source": "model"}
    recipe["schedule"] = {"name": "constant"}
    run = run_recipe(recipe, tmp_path)
    longer = ["run.max_steps=9"]
    lock_file = run.run_dir / "lock.json"
    edited = json.loads(lock_file.read_text())
    edited["packages"]["torch"] = "2.0.0"
    lock_file.write_text(json.dumps(with_seal(edited)))
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert resumed.error is None
    (said,) = [event["text"] for event in resumed.events if event["event"] == "library_changed"]
    assert said.startswith("torch was 2.0.0, is ")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(template.read_text() + "{# another #}")
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=10"])
    assert refused.exit_code == 2 and "the model or its tokenizer has changed" in str(refused.error)


def test_another_commit_on_the_hub_is_refused(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = cache / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(recipe["model"]["source"], repository / "snapshots" / commit)
    recipe["model"] = {"source": "acme/tiny"}
    recipe["schedule"] = {"name": "constant"}
    (repository / "refs" / "main").write_text("a" * 40)
    run = run_recipe(recipe, tmp_path)
    assert json.loads((run.run_dir / "lock.json").read_text())["model"]["commit"] == "a" * 40
    assert run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=9"]).error is None
    (repository / "refs" / "main").write_text("b" * 40)
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=10"])
    assert refused.exit_code == 2 and "the model or its tokenizer has changed" in str(refused.error)
    assert f"needs commit {'a' * 40}: set it as model.source.revision" in str(refused.error)
    recipe["model"] = {"source": {"name": "pretrained", "path": "acme/tiny", "revision": "a" * 40}}
    assert run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=10"]).error is None


def test_another_dataset_on_the_hub_is_refused(tmp_path: Path, recipe: dict[str, Any], rows: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    published = Path(shutil.copy(rows, folder / "train.jsonl"))
    recipe["data"]["train"] = [{"hub": str(folder), "format": "messages"}]
    recipe["schedule"] = {"name": "constant"}
    assert run_recipe(recipe, tmp_path).error is None
    assert run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=9"]).error is None
    published.write_text(published.read_text().replace("Row 1?", "Row one?"))
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["run.max_steps=10"])
    assert refused.exit_code == 2 and "the rows of data.train.0 have changed" in str(refused.error)


def test_a_lock_that_was_edited_or_cut_off_is_refused_before_rows_are_read(
    tmp_path: Path, recipe: dict[str, Any], rows: Path
) -> None:
    run = run_recipe(recipe, tmp_path)
    rows.unlink()
    lock_file = run.run_dir / "lock.json"
    whole = lock_file.read_text()
    for content in (whole.replace(torch.__version__, "2.0.0", 1), whole[:-200], whole[:-200] + '"}'):
        lock_file.write_text(content)
        refused = run_recipe(recipe, tmp_path, resume=True)
        assert refused.exit_code == 2 and f"'{lock_file}' is missing or damaged" in str(refused.error)


@pytest.mark.parametrize("name", ["lock.json", "recipe.resolved.toml"])
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "\0", None])
def test_a_damaged_run_directory_is_named(
    tmp_path: Path, recipe: dict[str, Any], name: str, content: str | None
) -> None:
    run_dir = tmp_path / "runs" / "recipe"
    record, loaded = begun(tmp_path, recipe)
    if content is not None:
        (run_dir / name).write_text(content)
    else:
        (run_dir / name).unlink()
    with pytest.raises(UsageError, match=re.escape(f"'{run_dir / name}' is missing or damaged")) as refused:
        refuse_differences(record, loaded, lock(loaded, [], {}), steps_per_epoch=5)
    assert "start a new run" in refused.value.problems[0].hint


def test_a_verb_that_needs_an_edited_lock_refuses_it(tmp_path: Path, recipe: dict[str, Any]) -> None:
    record, _ = begun(tmp_path, recipe)
    lock_file = record.path / "lock.json"
    lock_file.write_text(lock_file.read_text().replace('"python"', '"cobra"'))
    with pytest.raises(UsageError, match=re.escape(f"'{lock_file}' is missing or damaged")) as refused:
        initial_weights(load_run(record.path))
    assert "fttool verify" in refused.value.problems[0].hint


def begun(tmp_path: Path, recipe: dict[str, Any]) -> tuple[Record, Loaded]:
    """A run directory as it is before the first update."""
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    loaded = load(tmp_path / "recipe.toml", [f"run.output={tmp_path / 'runs'}"])
    record = Record.at(loaded, resume=False)
    record.create(loaded, lock(loaded, [], {}))
    return record, loaded


def test_a_run_with_a_share_as_warmup_is_not_made_longer_and_the_reason_is_said(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    recipe["schedule"] = {"name": "constant", "warmup": 0.25}
    record, _ = begun(tmp_path, recipe)
    (record.checkpoints / "checkpoint-8").mkdir()
    words = [f"run.output={tmp_path / 'runs'}", "run.max_steps=9", "checkpoints.every=2", 'advice.ignore=["padding"]']
    longer = load(tmp_path / "recipe.toml", words)
    with pytest.raises(UsageError, match=r"run\.max_steps was 8, is 9") as refused:
        refuse_differences(record, longer, lock(longer, [], {}), steps_per_epoch=5)
    assert "the warmup of schedule 'constant' is a share of the run" in str(refused.value)
    assert "schedule.warmup in steps" in str(refused.value)
    assert not any(free in str(refused.value) for free in ("checkpoints.every", "advice"))


def test_a_run_under_a_constant_schedule_can_be_made_longer(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["schedule"] = {"name": "constant"}
    short = run_recipe(recipe, tmp_path)
    longer = ["run.max_steps=12", "checkpoints.keep=5", "evaluation.every=4", "run.log_every=1"]
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert resumed.error is None and resumed.summary["steps"] == 12
    (tmp_path / "whole").mkdir()
    whole = run_recipe(recipe, tmp_path / "whole", overrides=longer)
    assert_same_weights(whole, resumed)
    assert (short.run_dir / "recipe.resolved.1.toml").exists()
    again = run_recipe(recipe, tmp_path, resume=True, overrides=longer)
    assert again.exit_code == 2 and "the run is complete" in str(again.error)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["checkpoints"] = {"every": 3, "keep": 9}
    whole = run_recipe(recipe, tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    cut_back(whole, moved / "runs" / "recipe", 6)
    weights_file = moved / "runs" / "recipe" / "checkpoints" / "checkpoint-6" / "trained.safetensors"
    damaged = bytearray(weights_file.read_bytes())
    damaged[-1] ^= 1
    weights_file.write_bytes(damaged)
    resumed = run_recipe(recipe, moved, resume=True)
    assert resumed.error is None
    kinds = [event["event"] for event in resumed.events]
    assert "checkpoint_rejected" in kinds
    assert next(event for event in resumed.events if event["event"] == "resumed")["step"] == 3
    assert_same_weights(whole, resumed)


class Counted:
    """How often an optimizer makes a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, step = 0, torch.optim.AdamW.step

        def counted(*arguments: Any, **named: Any) -> Any:
            self.steps += 1
            return step(*arguments, **named)

        monkeypatch.setattr(torch.optim.AdamW, "step", counted)


def lose(what: str, run_dir: Path) -> None:
    """Take a run's model away, in one of the ways in which that happens."""
    file = run_dir / "model" / "model.safetensors"
    if what == "stopped before":
        shutil.rmtree(run_dir / "model")
        (run_dir / "summary.json").unlink()
    elif what == "lost":
        shutil.rmtree(run_dir / "model")
    elif what == "one file":
        (run_dir / "model" / "tokenizer.json").unlink()
    elif what == "damaged":
        damaged = bytearray(file.read_bytes())
        damaged[-1] ^= 1
        file.write_bytes(damaged)
    else:
        assert what == "no summary"
        (run_dir / "summary.json").write_text("{")


@pytest.mark.parametrize("keep", [9, 1])
@pytest.mark.parametrize("what", ["stopped before", "lost", "one file", "damaged", "no summary"])
def test_a_model_that_is_lost_is_made_again_without_an_update(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, what: str, keep: int
) -> None:
    recipe["run"]["max_steps"] = 7  # in the middle of an epoch, where the libraries would make one update more
    recipe["checkpoints"] = {"every": 3, "keep": keep}
    recipe["evaluation"] |= {"every": 4}
    whole = run_recipe(recipe, tmp_path)
    before = (whole.summary, whole.metrics, contents(whole.run_dir / "model"))
    lose(what, whole.run_dir)
    counted = Counted(monkeypatch)
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.error is None and counted.steps == 0
    (event,) = [event for event in again.events if event["event"] == "model_remade"]
    files = {"lost": 9, "one file": 1, "damaged": 1}.get(what, 0)
    assert event["step"] == 7 and bool(event["lost"]) == bool(files) and (files != 1 or len(event["lost"]) == 1)
    assert contents(again.run_dir / "model") == before[2]
    assert timeless(again.summary) == timeless(before[0]) and again.metrics == before[1]
    refused = run_recipe(recipe, tmp_path, resume=True)
    assert refused.exit_code == 2 and "the run is complete" in str(refused.error)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("steps", [4, 8])
def test_the_model_of_a_run_that_ended_with_an_epoch_is_made_again(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    recipe["run"]["max_steps"] = steps
    recipe["regularizers"] = [{"name": "ema", "decay": 0.5}]
    whole = run_recipe(recipe, tmp_path)
    assert whole.summary["epochs"] == steps / 4
    before = (whole.metrics, contents(whole.run_dir / "model"))
    shutil.rmtree(whole.run_dir / "model")
    counted = Counted(monkeypatch)
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.error is None and counted.steps == 0
    assert contents(again.run_dir / "model") == before[1] and again.metrics == before[0]
    assert [line for line in again.metrics if line.get("final")]  # of the average


def test_a_whole_model_needs_no_checkpoint(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    shutil.rmtree(run.run_dir / "checkpoints")
    (run.run_dir / "checkpoints").mkdir()
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.exit_code == 2 and "the run is complete: its model is that of step 8 of 8" in str(again.error)


# -- evaluation --------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_early_stopping_and_the_best_checkpoint(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["run"]["max_steps"] = 60
    recipe["optimizer"]["lr"] = 0.3  # learns fast, then only gets worse
    recipe["schedule"] = {"name": "constant"}
    recipe["checkpoints"] = {"keep": 1}
    recipe["evaluation"] |= {"every": 2, "early_stopping": 3, "best": "loss"}
    run = run_recipe(recipe, tmp_path)
    summary = run.summary
    evaluated = {line["step"]: line["eval_loss"] for line in run.metrics if "eval_loss" in line}
    assert summary["stopped_early"] and summary["steps"] == summary["best"]["step"] + 6 < 60
    assert summary["best"]["value"] == min(evaluated.values())
    lines = [line for line in run.metrics if "eval_loss" in line]
    assert [line["step"] for line in lines].count(summary["steps"]) == 2
    assert [line for line in lines if line.get("final")] == lines[-1:]  # of the best weights, which are those saved
    assert summary["eval"]["after"]["loss"] == pytest.approx(summary["best"]["value"], rel=1e-6)
    best = load_file(run.run_dir / "checkpoints" / f"checkpoint-{summary['best']['step']}" / "trained.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in weights(run).items())
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.exit_code == 2 and "the run is complete" in str(again.error)
    before = (run.metrics, contents(run.run_dir / "model"))
    shutil.rmtree(run.run_dir / "model")
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.error is None and (again.metrics, contents(again.run_dir / "model")) == before
    assert timeless(again.summary) == timeless(summary)
    shutil.rmtree(run.run_dir / "model")
    (run.run_dir / "checkpoints" / f"checkpoint-{summary['best']['step']}" / "trained.safetensors").unlink()
    refused = run_recipe(recipe, tmp_path, resume=True)
    assert refused.exit_code == 2 and f"checkpoint-{summary['best']['step']} is damaged" in str(refused.error)
    assert not (run.run_dir / "model").exists() and refused.summary["status"] == "failed"


def test_a_run_that_stopped_early_goes_on_where_it_may_stop_later(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """It ends as the run that had never been told to stop."""
    recipe["run"]["max_steps"] = 14
    recipe["optimizer"]["lr"] = 1.0
    recipe["schedule"] = {"name": "constant"}
    recipe["evaluation"] |= {"every": 2, "samples": 0}
    patient = run_recipe(recipe, tmp_path, overrides=["run.name=patient"])
    recipe["evaluation"]["early_stopping"] = 1
    run = run_recipe(recipe, tmp_path)
    stopped = run.summary["steps"]
    assert run.summary["stopped_early"] and stopped < 14
    refused = run_recipe(recipe, tmp_path, resume=True)
    assert refused.exit_code == 2 and refused.error is not None
    assert f"it stopped early, after step {stopped} of 14" in str(refused.error)
    assert "--set evaluation.early_stopping=2" in refused.error.problems[0].hint
    resumed = run_recipe(recipe, tmp_path, resume=True, overrides=["evaluation.early_stopping=9"])
    assert resumed.error is None and (resumed.summary["steps"], resumed.summary["stopped_early"]) == (14, False)
    (said,) = [event["text"] for event in resumed.events if event["event"] == "stops_later"]
    assert said == f"the run had stopped early, after step {stopped}; it goes on with evaluation.early_stopping = 9"
    assert losses(resumed) == losses(patient) and resumed.metrics == [
        {**line, "tokens_per_second": mine["tokens_per_second"]} if "tokens_per_second" in line else line
        for line, mine in zip(patient.metrics, resumed.metrics, strict=True)
    ]
    assert_same_weights(patient, resumed)
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["evaluation.early_stopping=3"])
    assert refused.exit_code == 2 and "evaluation.early_stopping was 9, is 3" in str(refused.error)
    assert "can only stop later" in str(refused.error)


@pytest.mark.parametrize(
    "freezing", ["full", {"name": "patterns", "train": ["*lm_head*", "*norm*"]}, {"name": "lora", "rank": 2}]
)
def test_a_run_that_only_makes_the_model_worse_says_so_and_best_is_the_model_before(
    tmp_path: Path, recipe: dict[str, Any], freezing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed too; with adapters it is the model without what they add."""
    recipe["freezing"] = freezing
    recipe["optimizer"] |= {"lr": 3.0, "max_grad_norm": 0}
    recipe["schedule"] = {"name": "constant"}
    recipe["checkpoints"] = {"every": 2, "keep": 9}
    recipe["evaluation"] |= {"every": 2, "early_stopping": 3, "best": "loss"}
    run = run_recipe(recipe, tmp_path)
    evaluated = [line["eval_loss"] for line in run.metrics if "eval_loss" in line]
    assert min(evaluated[1:-1]) > evaluated[0] and len(evaluated) == 5  # before, three on the way, of the final weights
    assert evaluated[-1] == pytest.approx(evaluated[0], rel=1e-6)
    assert run.summary["best"] == {"step": 0, "value": evaluated[0]}
    assert (run.summary["steps"], run.summary["stopped_early"]) == (6, True)
    source = load_file(Path(recipe["model"]["source"]) / "model.safetensors")
    assert all(torch.equal(tensor, source[name]) for name, tensor in weights(run).items())
    found = weights(run)
    shutil.rmtree(run.run_dir / "model")
    for step in (4, 6):
        shutil.rmtree(run.run_dir / "checkpoints" / f"checkpoint-{step}")
    (run.run_dir / "summary.json").unlink()
    capsys.readouterr()
    assert main(["run", str(tmp_path / "recipe.toml"), "--resume", "--set", f"run.output={tmp_path / 'runs'}"]) == 0
    said = capsys.readouterr().out
    assert "no evaluation had a better loss than before training" in said
    assert "the model is the one before the first update" in said
    assert "no better than before the first update, in 3 evaluations in a row" in said
    assert all(torch.equal(tensor, found[name]) for name, tensor in weights(run).items())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"checkpoints": {"dtype": "bfloat16"}}, "rounded to the format that is saved"),
        ({"regularizers": [{"name": "ema", "decay": 0.5}]}, "changed by ema"),
    ],
)
def test_why_the_final_model_is_measured_once_more_is_said(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], changes: dict[str, Any], why: str | None
) -> None:
    recipe["run"]["max_steps"] = 2
    (tmp_path / "recipe.toml").write_text(dumps({**recipe, **changes}))
    assert main(["run", str(tmp_path / "recipe.toml"), "--set", f"run.output={tmp_path / 'runs'}"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "the final model" in line]
    assert said == ([f"… evaluating the final model: {why}"] if why else [])
    lines = (tmp_path / "runs" / "recipe" / "metrics.jsonl").read_text().splitlines()
    assert sum("eval_loss" in line for line in lines) == (3 if why else 2)


def test_a_run_without_a_best_says_too_that_it_only_made_the_model_worse(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["optimizer"] |= {"lr": 3.0, "max_grad_norm": 0}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    assert main(["run", str(tmp_path / "recipe.toml"), "--set", f"run.output={tmp_path / 'runs'}"]) == 0
    assert "the model is the last update's" in capsys.readouterr().out
    summary = json.loads((tmp_path / "runs" / "recipe" / "summary.json").read_text())
    assert summary["best"] == {"step": 0, "value": summary["eval"]["before"]["loss"]}
    assert summary["eval"]["after"]["loss"] > summary["best"]["value"]


class Scripted(Metric):
    """A metric of given values, by the number of the evaluation."""

    name: Literal["acme.scripted"] = "acme.scripted"
    values: tuple[str, ...]
    """One per evaluation."""

    def build(self, ctx: MetricContext) -> Measure:
        """Yield the next value."""
        left = iter(self.values)
        return Measure(
            statistics=lambda predictions: torch.zeros(1, dtype=torch.float64), value=lambda total: float(next(left))
        )


@pytest.mark.parametrize(
    ("values", "best"),
    [
        (("9", "nan", "3", "inf", "4"), {"step": 4, "value": 3.0}),
        (("9", "-inf", "nan", "nan", "4"), {"step": 8, "value": 4.0}),
        (("9", "nan", "nan", "nan", "nan"), {"step": 0, "value": 9.0}),
        (("3", "4", "3", "5", "9"), {"step": 0, "value": 3.0}),
        (("nan", "nan", "nan", "nan", "nan"), None),
    ],
)
def test_what_is_not_finite_is_never_the_best(
    tmp_path: Path, recipe: dict[str, Any], values: tuple[str, ...], best: dict[str, Any] | None
) -> None:
    acme = SimpleNamespace(fttool_strategies=hookimpl(lambda: [Scripted], specname="fttool_strategies"))
    recipe["evaluation"] = {"every": 2, "samples": 0, "metrics": [{"name": "acme.scripted", "values": list(values)}]}
    run = run_recipe(recipe, tmp_path, plugins=plugins(acme=acme))
    assert run.error is None and run.summary["best"] == best


def test_there_is_one_evaluation_per_step(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["evaluation"]["every"] = 4
    run = run_recipe(recipe, tmp_path)
    assert [line["step"] for line in run.metrics if "eval_loss" in line] == [0, 4, 8]


# -- how it can end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pulled", [False, True])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(
    tmp_path: Path, recipe: dict[str, Any], pulled: bool
) -> None:
    shutil.copytree(recipe["model"]["source"], tmp_path / "model")
    from safetensors.torch import save_file

    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"][5] = float("inf")
    save_file(tensors, file, metadata={"format": "pt"})
    recipe["model"] = {"source": "model"}
    recipe["regularizers"] = [{"name": "l2-init", "strength": 0.1}] if pulled else []
    del recipe["data"]["eval_share"]
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 8 and "lower optimizer.lr" in str(run.error)
    assert ("lower the strength of what pulls, in [[regularizers]]" in str(run.error)) == pulled
    assert run.summary["status"] == "diverged" and run.summary["steps"] == 0
    (event,) = [event for event in run.events if event["event"] == "diverged"]
    assert event["step"] == 1 and len(event["rows"]) == 8
    assert all(row.startswith(recipe["data"]["train"][0]["path"]) for row in event["rows"])
    assert not (run.run_dir / "metrics.jsonl").exists()  # above all no loss of 0.0
    assert not (run.run_dir / "model").exists()


class NanGradient(Regularizer):
    """A finite loss whose gradient is NaN from the second update on."""

    name: Literal["acme.nan"] = "acme.nan"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield √0 of a weight difference that is 0 after the first update."""
        calls = iter(range(10**6))

        def loss(model: Any, *_: Any) -> torch.Tensor:
            weight = next(model.parameters()).sum()
            return torch.sqrt((weight - weight.detach()) * 0) if next(calls) >= 4 else weight * 0

        return Regularization(loss=loss)


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path, recipe: dict[str, Any]) -> None:
    acme = SimpleNamespace(fttool_strategies=hookimpl(lambda: [NanGradient], specname="fttool_strategies"))
    recipe["regularizers"] = ["acme.nan"]
    run = run_recipe(recipe, tmp_path, plugins=plugins(acme=acme))
    assert run.exit_code == 8 and "gradient of update 2" in str(run.error)
    assert run.summary["steps"] == 1
    assert all(line["loss"] > 0 for line in run.metrics if "loss" in line)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_stops_and_the_run_can_go_on(
    tmp_path: Path, recipe: dict[str, Any], number: signal.Signals, code: int
) -> None:
    class Killer:
        @hookimpl
        def fttool_logged(self, step: int, values: dict[str, Any]) -> None:
            if step == 3 and "loss" in values:
                os.kill(os.getpid(), number)

    whole = run_recipe(recipe, tmp_path, overrides=["run.name=whole"])
    recipe["plugins"] = {"observe": ["acme"]}
    stopped = run_recipe(recipe, tmp_path, plugins=plugins(acme=Killer()))
    assert stopped.exit_code == code
    assert stopped.summary["status"] == "interrupted" and stopped.summary["steps"] == 4
    quiet = plugins(acme=SimpleNamespace(fttool_logged=hookimpl(lambda: None, specname="fttool_logged")))
    resumed = run_recipe(recipe, tmp_path, plugins=quiet, resume=True)
    assert resumed.summary["status"] == "finished"
    assert_same_weights(whole, resumed)


def test_a_run_directory_is_complete_or_absent(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """A run that dies while it makes one leaves its name free; of two that make one, the second is told."""
    first, loaded = begun(tmp_path, recipe)
    shutil.move(first.path, tmp_path / "elsewhere")

    def die(new: Record) -> None:
        assert not first.path.exists() and (new.path / "recipe.toml").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.create(loaded, {}, die)
    assert not list((tmp_path / "runs").iterdir())
    Record.at(loaded, resume=False).create(loaded, {})
    with pytest.raises(UsageError, match="created meanwhile"):
        first.create(loaded, {})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["recipe"]


def test_an_existing_run_directory_is_never_overwritten(tmp_path: Path, recipe: dict[str, Any]) -> None:
    first = run_recipe(recipe, tmp_path)
    before = {path: path.read_bytes() for path in first.run_dir.rglob("*") if path.is_file()}
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 2 and "--resume" in str(refused.error)
    assert {path: path.read_bytes() for path in first.run_dir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("obstacle", ["a file", "a link out", "nothing to resume"])
def test_an_impossible_run_directory_is_refused(tmp_path: Path, recipe: dict[str, Any], obstacle: str) -> None:
    runs = tmp_path / "runs"
    if obstacle == "a file":
        runs.write_text("")
    elif obstacle == "a link out":
        (tmp_path / "elsewhere").mkdir()
        runs.mkdir()
        (runs / "recipe").symlink_to(tmp_path / "elsewhere")
    refused = run_recipe(recipe, tmp_path, resume=obstacle != "a file")
    assert refused.exit_code == 2
    assert not list((tmp_path / "elsewhere").glob("*"))


# -- what is written ---------------------------------------------------------------------------------------------


def test_the_run_directory_is_complete(tmp_path: Path, recipe: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = run_recipe(recipe, tmp_path)
    names = {path.name for path in run.run_dir.iterdir()}
    assert names == {
        "checkpoints",
        "events.jsonl",
        "lock.json",
        "metrics.jsonl",
        "model",
        "recipe.resolved.toml",
        "recipe.toml",
        "summary.json",
    }
    assert (run.run_dir / "recipe.toml").read_text() == (tmp_path / "recipe.toml").read_text()
    lock = json.loads((run.run_dir / "lock.json").read_text())
    assert lock["packages"]["torch"] == torch.__version__ and len(lock["files"][0]["sha256"]) == 64
    assert not list(run.run_dir.rglob("training_args.bin")) and not list(run.run_dir.rglob("*.partial"))

    model = AutoModelForCausalLM.from_pretrained(run.run_dir / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.run_dir / "model")
    original = AutoTokenizer.from_pretrained(recipe["model"]["source"])
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer.eos_token_id in (
        model.generation_config.eos_token_id
        if isinstance(model.generation_config.eos_token_id, list)
        else [model.generation_config.eos_token_id]
    )


def test_the_resolved_recipe_makes_the_same_run_again_where_it_lies(
    tmp_path: Path, recipe: dict[str, Any], rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(recipe["model"]["source"], tmp_path / "model")
    recipe["model"] = {"source": "model"}
    recipe["data"]["train"][0]["path"] = rows.name
    first = run_recipe(recipe, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = [str(first.run_dir / "recipe.resolved.toml"), "-q", "--set", "run.name=again", "--set", "run.output=."]
    assert main(["run", *words]) == 0
    again = RunResult(exit_code=ExitCode.OK, run_dir=tmp_path / "elsewhere" / "again", error=None)
    assert_same_weights(first, again)


def test_a_tracker_writes_into_the_run_directory(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path, overrides=["tracking.to=['tensorboard']"])
    assert list(run.run_dir.rglob("*tfevents*"))


def test_an_unknown_tracker_is_refused_before_anything_is_loaded(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path, overrides=["tracking.to=['tensorbord']"])
    assert run.exit_code == 3 and "did you mean 'tensorboard'?" in str(run.error)
    assert not run.run_dir.exists()


def test_json_events_are_json_lines(tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(dumps(recipe))
    assert main(["run", str(file), "--json", "--set", f"run.output={tmp_path}/runs"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "summary" and "started" in kinds and kinds.count("logged") >= 8
    assert events[-1]["summary"]["status"] == "finished"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["optimizer.lr=-1"], 3), (["data.eval_share=0", "batching.max_length=2"], 4), (["optimizer.lr=9.9"], 0)],
)
def test_json_events_end_with_how_it_ended(
    tmp_path: Path, recipe: dict[str, Any], words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(dumps(recipe))
    sets = [part for word in [*words, f"run.output={tmp_path}/runs"] for part in ("--set", word)]
    assert main(["run", str(file), "--json", *sets]) == code
    out, err = capsys.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == ("failed" if code else "summary")
    if code:
        assert last["exit_code"] == code and set(last["problems"][0]) == {"message", "where", "hint"}
        assert last["problems"][0]["message"] in err


@pytest.mark.parametrize(("fault", "code"), [(RuntimeError("broken"), 1), (KeyboardInterrupt(), 130)])
def test_json_events_end_with_a_fault_too(
    tmp_path: Path,
    recipe: dict[str, Any],
    fault: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("fttool.show.running.run", broken)
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    assert main(["run", str(tmp_path / "recipe.toml"), "--json"]) == code
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("failed", code)


def test_nothing_is_printed_when_quiet(
    tmp_path: Path, recipe: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    run_recipe(recipe, tmp_path)
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""
