"""A checkpoint is complete or absent, and a damaged one is never loaded."""

import json
from pathlib import Path

import pytest

from fttool import checkpoints


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
        checkpoints.save(tmp_path, step, write, {})
    checkpoints.prune(tmp_path, keep=2, best=4)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-4",
        "checkpoint-8",
    ]


def test_the_manifest_names_every_file(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 1, write, {})
    files = json.loads((path / checkpoints.MANIFEST).read_text())["files"]
    assert set(files) == {"model.safetensors", "inner/state"}
