"""What happens to a run directory while a run writes into it, and what stands there afterwards."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fttool import disk
from fttool.api import hookimpl
from fttool.cli import main
from fttool.rundir import checkpoints, lines
from fttool.testing import RunResult, plugins, run_recipe


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    """Four updates, with a checkpoint after the second and the last."""
    fttool_recipe["run"] = {"max_steps": 4, "micro_batch": 2, "log_every": 1}
    fttool_recipe["checkpoints"] = {"every": 2, "keep": 9}
    fttool_recipe["schedule"] = {"name": "constant"}
    fttool_recipe["evaluation"] = {"samples": 0}
    return fttool_recipe


class Meanwhile:
    """Does something once update 3 is logged."""

    def __init__(self, act: Any) -> None:
        self.act = act

    @hookimpl
    def fttool_logged(self, step: int, values: dict[str, Any]) -> None:
        if step == 3 and "loss" in values:
            self.act()


def watched(recipe: dict[str, Any], folder: Path, act: Any) -> RunResult:
    return run_recipe({**recipe, "plugins": {"observe": ["acme"]}}, folder, plugins=plugins(acme=Meanwhile(act)))


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_is_not_resumed_beside_itself(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[int] = []

    def resume() -> None:
        resolved = tmp_path / "runs" / "recipe" / "recipe.resolved.toml"
        words = ["run", str(resolved), "-q", "--resume", "--set", f"run.output={tmp_path / 'runs'}"]
        found.append(main([*words, "--set", "plugins.observe=[]"]))

    run = watched(recipe, tmp_path, resume)
    assert run.error is None and found == [2]
    assert f"process {os.getpid()} on " in capsys.readouterr().err
    assert [line["step"] for line in run.metrics if "loss" in line] == [1, 2, 3, 4]
    assert sorted(path.name for path in (run.run_dir / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert not (run.run_dir / ".in-use").exists()


def test_a_directory_that_is_moved_meanwhile_ends_the_run_with_its_new_place(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    elsewhere = tmp_path / "moved" / "recipe"
    elsewhere.parent.mkdir()
    run = watched(recipe, tmp_path, lambda: (tmp_path / "runs" / "recipe").rename(elsewhere))
    assert run.exit_code == 9 and f"was moved to '{elsewhere}'" in str(run.error)
    assert not run.run_dir.exists()
    moved = RunResult(exit_code=run.exit_code, run_dir=elsewhere, error=None)
    assert moved.summary["status"] == "failed" and moved.events[-1]["event"] == "ended"
    shutil.move(elsewhere, run.run_dir)
    resumed = run_recipe(recipe, tmp_path, resume=True)
    assert resumed.error is None and resumed.summary["status"] == "finished"


def test_a_directory_that_is_deleted_meanwhile_ends_the_run_and_is_not_made_again(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    run = watched(recipe, tmp_path, lambda: shutil.rmtree(tmp_path / "runs" / "recipe"))
    assert run.exit_code == 9 and "was moved away or deleted" in str(run.error)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_disk_that_is_full_at_a_checkpoint_leaves_no_part_of_it_and_the_end_is_recorded(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = watched(recipe, tmp_path, lambda: monkeypatch.setattr("torch.save", no_space))
    assert run.exit_code == 9
    assert "checkpoint-4': no space is left on the disk; it takes about" in str(run.error)
    assert "MiB are free" in str(run.error) and "lower checkpoints.keep" in str(run.error)
    assert [path.name for path in (run.run_dir / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert run.summary["status"] == "failed" and run.events[-1]["status"] == "failed"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_line_more_ends_the_run_with_its_reason(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Not even how it ended can be written; what stands there is whole."""

    def refuse(*_: Any, **__: Any) -> None:
        raise disk.disk_error(number, tmp_path)

    def act() -> None:
        monkeypatch.setattr(lines, "append", refuse)
        monkeypatch.setattr(disk, "write_atomically", refuse)

    run = watched(recipe, tmp_path, act)
    assert run.exit_code == 9 and disk.REFUSALS[number] in str(run.error)
    assert not (run.run_dir / "summary.json").exists() and run.events[-1]["event"] == "checkpoint_saved"


def test_a_disk_that_is_full_at_the_end_leaves_no_part_of_a_model(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fttool.training.saving.write_model", no_space)
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 9 and f"{run.run_dir / 'model'}': no space is left" in str(run.error)
    assert not list(run.run_dir.glob("*model*")) and not list(run.run_dir.glob(".*model*"))
    assert run.summary["status"] == "failed"


def test_what_says_finished_comes_after_the_model_is_on_disk(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, append = disk.flush, lines.append

    def noted(path: Path) -> None:
        flush(path)
        done.append(path.name)

    def line(file: Path, values: Any, *, flushed: bool = False) -> None:
        append(file, values, flushed=flushed)
        if flushed:
            done.append(values["event"])

    monkeypatch.setattr(disk, "flush", noted)
    monkeypatch.setattr(lines, "append", line)
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    last = {name: len(done) - 1 - done[::-1].index(name) for name in dict.fromkeys(done)}
    model = [path.name for path in (run.run_dir / "model").rglob("*")]
    assert "model.safetensors" in model and "tokenizer.json" in model
    assert max(last[name] for name in model) < last[".summary.json.partial"] < last["ended"]
    assert done[last[".summary.json.partial"] + 1] == "recipe"  # its folder
    assert run.summary["files"] == {
        f"model/{name}": digest
        for name, digest in disk.hashes(run.run_dir / "model").items()
        if name != "README.md"  # the card may be edited
    }


def test_damaged_lines_are_said_and_put_aside_when_a_run_goes_on(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    shutil.rmtree(run.run_dir / "checkpoints" / "checkpoint-4")
    (run.run_dir / "summary.json").unlink()
    metrics = run.run_dir / "metrics.jsonl"
    content = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(['{"step": 0, "lo\n', *content, '{"step": 5']))
    with (run.run_dir / "events.jsonl").open("a") as events:
        events.write('{"time": "2026')
    resumed = run_recipe(recipe, tmp_path, resume=True)
    assert resumed.error is None
    said = [event["text"] for event in resumed.events if event["event"] == "lines_damaged"]
    assert len(said) == 2 and "lines 1, " in said[0] and "events.jsonl' is damaged" in said[1]
    assert [line["step"] for line in resumed.metrics if "loss" in line] == [1, 2, 3, 4]
    assert (run.run_dir / "events.jsonl.damaged").read_text() == '{"time": "2026\n'


def test_a_resolved_recipe_that_is_cut_off_is_no_other_recipe(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    file = run.run_dir / "recipe.resolved.toml"
    text = file.read_text()
    file.write_text(text[: text.index("\n\n", len(text) // 2) + 1])  # still TOML, and still a recipe
    again = run_recipe(recipe, tmp_path, resume=True)
    assert again.exit_code == 2 and f"'{file}' is missing or damaged" in str(again.error)
    assert "it is cut off, or was edited" in str(again.error)


def test_another_recipe_is_refused_before_rows_or_model_are_loaded(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_recipe(recipe, tmp_path).error is None

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("fttool.runs.run.prepare_run", load)
    refused = run_recipe(recipe, tmp_path, resume=True, overrides=["optimizer.lr=0.5", "run.max_steps=3"])
    assert refused.exit_code == 2 and "is 0.5" in str(refused.error)
    assert "a resumed run can only be made longer" in str(refused.error)


def test_of_damaged_checkpoints_the_newest_is_kept_and_whole_ones_are_not_called_damaged(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(os.urandom(8))

    for step in (2, 4, 6):
        path = checkpoints.save(tmp_path, step, write, {})
        (path / "weights").write_bytes(b"?")
        checkpoints.save(tmp_path, step, write, {})
    (tmp_path / ".checkpoint-8.partial").mkdir()
    checkpoints.save(tmp_path, 6, write, {"again": True})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".checkpoint-6.damaged", "checkpoint-2", "checkpoint-4", "checkpoint-6"]
    found, rejected = checkpoints.newest(tmp_path)
    assert found is not None and found.progress == {"again": True} and not rejected
    assert json.loads((tmp_path / ".checkpoint-6.damaged" / checkpoints.MANIFEST).read_text())["progress"] == {}
