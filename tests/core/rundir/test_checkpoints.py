"""A checkpoint is complete or absent, and a damaged one is never loaded."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from fttool.rundir import checkpoints


def write(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "inner").mkdir()
    (folder / "inner" / "state").write_bytes(b"state")


def test_a_saved_checkpoint_is_found_with_its_progress(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 5, write, {"train_tokens": 7})
    found, rejected = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.path, found.step, found.progress) == (path, 5, {"train_tokens": 7})
    assert rejected == []


def test_a_crash_while_writing_leaves_no_checkpoint(tmp_path: Path) -> None:
    def crash(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    checkpoints.save(tmp_path, 5, write, {})
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, 10, crash, {})
    found, _ = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 5


@pytest.mark.parametrize("damage", ["flip", "remove", "truncate", "{", "{}", "[]", "progress", "files"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    checkpoints.save(tmp_path, 5, write, {})
    path = checkpoints.save(tmp_path, 10, write, {"train_tokens": 7, "best": float("nan")})
    weights = path / "model.safetensors"
    match damage:
        case "flip":
            weights.write_bytes(b"weighTs")
        case "remove":
            weights.unlink()
        case "truncate":
            weights.write_bytes(b"wei")
        case "progress" | "files":
            manifest = json.loads((path / checkpoints.MANIFEST).read_text())
            manifest[damage] = {}
            (path / checkpoints.MANIFEST).write_text(json.dumps(manifest))
        case _:
            (path / checkpoints.MANIFEST).write_text(damage)
    found, rejected = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 5
    assert len(rejected) == 1 and "checkpoint-10" in rejected[0]


def test_a_damaged_checkpoint_can_be_reached_again(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 5, write, {})
    (path / "model.safetensors").write_bytes(b"?")
    checkpoints.save(tmp_path, 5, write, {"again": True})
    found, rejected = checkpoints.newest(tmp_path)
    assert found is not None and found.progress == {"again": True} and not rejected


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8, 10):
        checkpoints.save(tmp_path, step, write, {"best_step": 4 if step >= 4 else None})
    checkpoints.prune(tmp_path, keep=2, best=True)
    assert checkpoints.steps(tmp_path) == [4, 8, 10]
    checkpoints.prune(tmp_path, keep=2)
    assert checkpoints.steps(tmp_path) == [8, 10]


def test_pruning_keeps_the_newest_of_the_stable_phase_with_the_best_up_to_there(tmp_path: Path) -> None:
    best = {2: 2, 4: 2, 6: 6, 8: 6, 10: 10, 12: 12, 14: 12}
    for step, best_step in best.items():
        checkpoints.save(tmp_path, step, write, {"best_step": best_step})
    checkpoints.prune(tmp_path, keep=1, stable=range(3, 9), keep_stable=2, best=True)
    assert checkpoints.steps(tmp_path) == [6, 8, 12, 14]  # 12 is the best up to 14, 2 is the best for nobody
    checkpoints.prune(tmp_path, keep=1, stable=range(3, 9), keep_stable=1, best=False)
    assert checkpoints.steps(tmp_path) == [8, 14]


@pytest.mark.parametrize("can_link", [True, False])
def test_a_checkpoint_under_another_root_is_the_same_and_outlives_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not can_link:
        monkeypatch.setattr("os.link", refuse)
    checkpoints.save(tmp_path / "one", 5, write, {"train_tokens": 7})
    first = checkpoints.intact(tmp_path / "one", 5)
    assert isinstance(first, checkpoints.Checkpoint)
    (tmp_path / "two").mkdir()
    checkpoints.link(first, tmp_path / "two")
    second = checkpoints.intact(tmp_path / "two", 5)
    assert isinstance(second, checkpoints.Checkpoint)
    assert checkpoints.seal(first) == checkpoints.seal(second)
    assert (second.path / "inner" / "state").samefile(first.path / "inner" / "state") == can_link
    shutil.rmtree(tmp_path / "one")
    assert checkpoints.intact(tmp_path / "two", 5) == second


def test_a_crash_while_copying_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    checkpoints.save(tmp_path / "one", 5, write, {})
    first = checkpoints.intact(tmp_path / "one", 5)
    assert isinstance(first, checkpoints.Checkpoint)
    (tmp_path / "two").mkdir()
    monkeypatch.setattr("os.link", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.link(first, tmp_path / "two")
    assert checkpoints.steps(tmp_path / "two") == []


def test_only_the_checkpoints_asked_for_are_looked_at(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoints.save(tmp_path, step, write, {})
    (tmp_path / "checkpoint-4" / "model.safetensors").write_bytes(b"?")
    found, rejected = checkpoints.newest(tmp_path, range(5))
    assert found is not None and found.step == 2
    assert rejected == ["checkpoint-4 is damaged: model.safetensors"]
    assert checkpoints.intact(tmp_path, 8) == "there is no checkpoint-8"
    assert [path.name for path in checkpoints.after(tmp_path, 4)] == ["checkpoint-6"]


def test_the_manifest_names_every_file(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 1, write, {})
    files = json.loads((path / checkpoints.MANIFEST).read_text())["files"]
    assert set(files) == {"model.safetensors", "inner/state"}
