"""A sharded checkpoint of somebody else's is resumed; code in one does not run, unless its user trusts it."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from .watching import dist

pytestmark = dist


class Planted:
    """Makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def plant(checkpoint: Path, pattern: str, mark: Path) -> None:
    """Into every file of the pattern; the manifest is made anew."""
    manifest = json.loads((checkpoint / "complete.json").read_text())
    del manifest["sha256"], manifest["signature"]
    for file in checkpoint.rglob(pattern):
        file.write_bytes(pickle.dumps(Planted(mark)))
        name = file.relative_to(checkpoint).as_posix()
        manifest["files"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    (checkpoint / "complete.json").write_text(json.dumps({**manifest, "sha256": seal, "signature": "0" * 64}))


@pytest.mark.parametrize(("engine", "pattern"), [("fsdp", ".metadata"), ("zero", "*_model_states.pt")])
def test_a_planted_pickle_does_not_run(
    tmp_path: Path, recipe: dict[str, Any], started: Any, monkeypatch: pytest.MonkeyPatch, engine: str, pattern: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    recipe["run"]["max_steps"] = 2
    recipe["schedule"] = {"name": "constant"}
    recipe["sharding"]["name"] = engine
    recipe["checkpoints"] = {"every": 2}
    process = started()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another's state"))
    recipe["run"]["max_steps"] = 4
    process = started("--resume")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0 and "resuming from step 2" in said, said
    recipe["run"]["max_steps"] = 6
    plant(tmp_path / "runs" / "r" / "checkpoints" / "checkpoint-4", pattern, tmp_path / "ran")
    process = started("--resume")
    _, said = process.communicate(timeout=240)
    assert process.returncode == 2 and "--trust-checkpoint" in said, said
    assert not (tmp_path / "ran").exists()
    if engine == "zero":  # where the pickle is read, it does run: what is asserted above can fail
        started("--resume", "--trust-checkpoint").communicate(timeout=240)
        assert (tmp_path / "ran").exists()
