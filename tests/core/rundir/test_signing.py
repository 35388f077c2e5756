"""A checkpoint whose reading runs code is read only where its user wrote it, or says that they trust it."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fttool.errors import UsageError
from fttool.rundir import checkpoints, signing
from fttool.testing import run_recipe
from fttool.training.saving import refuse_strange_code


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def saved(root: Path) -> Path:
    return checkpoints.save(root, 5, lambda folder: (folder / "state.pt").write_bytes(b"mine") and None, {})


class Planted:
    """Makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def job(*, code: str | None = "state.pt: it names os.system", trusts: bool = False, first: bool = True) -> Any:
    """Of a plan that finds this code in each checkpoint; None: whose engine reads no pickles."""
    return SimpleNamespace(
        plan=SimpleNamespace(code_in=None if code is None else lambda _: code),
        output=SimpleNamespace(trusts=trusts, vouched=set[Path]()),
        world=SimpleNamespace(first=first),
        recipe=SimpleNamespace(sharding=SimpleNamespace(id=lambda: "zero")),
    )


def forge(path: Path) -> None:
    """Change a file, and make all that vouches for it anew, but for the key."""
    (path / "state.pt").write_bytes(b"evil")
    manifest = json.loads((path / checkpoints.MANIFEST).read_text())
    counted = {key: value for key, value in manifest.items() if key not in ("sha256", "signature")}
    counted["files"]["state.pt"] = hashlib.sha256(b"evil").hexdigest()
    seal = hashlib.sha256(json.dumps(counted).encode()).hexdigest()
    guess = hmac.new(b"", seal.encode(), hashlib.sha256).hexdigest()
    (path / checkpoints.MANIFEST).write_text(json.dumps({**counted, "sha256": seal, "signature": guess}))
    assert isinstance(checkpoints.intact(path.parent, 5), checkpoints.Checkpoint)  # by its hashes all is well


def test_what_this_user_wrote_needs_no_word(tmp_path: Path) -> None:
    refuse_strange_code(job(), saved(tmp_path))


@pytest.mark.parametrize(
    "deed", ["forged", "another user's key", "key lost", "key open to all", "unsigned", "key empty"]
)
def test_anything_else_is_refused_and_told_how_to_go_on(deed: str, tmp_path: Path, state: Path) -> None:
    path = saved(tmp_path)
    key = state / "fttool" / "key"
    match deed:
        case "forged":
            forge(path)
        case "another user's key":
            key.unlink()
            saved(tmp_path / "other")
        case "key lost":
            key.unlink()
        case "key open to all":
            key.chmod(0o644)
        case "key empty":
            key.write_bytes(b"")
        case _:
            manifest = json.loads((path / checkpoints.MANIFEST).read_text())
            (path / checkpoints.MANIFEST).write_text(json.dumps({**manifest, "signature": None}))
    with pytest.raises(UsageError, match=r"was not written by you on this machine.*it names os\.system") as refused:
        refuse_strange_code(job(), path)
    assert "--trust-checkpoint" in refused.value.problems[0].hint
    refuse_strange_code(job(trusts=True), path)
    refuse_strange_code(job(code=""), path)
    refuse_strange_code(job(code=None), path)
    refuse_strange_code(job(first=False), path)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "fttool_state.pt"])
def test_code_in_a_strangers_checkpoint_is_named_and_not_run(
    name: str, tmp_path: Path, fttool_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fttool_recipe["checkpoints"] = {"every": 2}
    fttool_recipe["schedule"] = {"name": "constant"}
    assert run_recipe(fttool_recipe, tmp_path).exit_code == 0
    checkpoint = tmp_path / "runs" / "recipe" / "checkpoints" / "checkpoint-4"
    manifest = json.loads((checkpoint / checkpoints.MANIFEST).read_text())
    torch.save({"a": Planted(tmp_path / "ran")}, checkpoint / name)
    manifest["files"][name] = hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
    counted = {key: value for key, value in manifest.items() if key not in ("sha256", "signature")}
    seal = hashlib.sha256(json.dumps(counted).encode()).hexdigest()
    (checkpoint / checkpoints.MANIFEST).write_text(json.dumps({**counted, "sha256": seal, "signature": None}))
    fttool_recipe["run"]["max_steps"] = 6
    run = run_recipe(fttool_recipe, tmp_path, resume=True)
    assert run.exit_code == 2 and f"{name} holds more than data" in str(run.error)
    assert not (tmp_path / "ran").exists()
    shutil.rmtree(checkpoint)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another's"))  # data alone of somebody else's is resumed
    assert run_recipe(fttool_recipe, tmp_path, resume=True).exit_code == 0


def test_a_file_that_is_not_the_signed_one_is_refused_even_from_this_user(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (path / "state.pt").write_bytes(b"evil")
    with pytest.raises(UsageError, match="is damaged"):
        refuse_strange_code(job(), path)


def test_what_this_run_has_vouched_for_is_not_hashed_again(tmp_path: Path) -> None:
    one, path = job(), saved(tmp_path)
    refuse_strange_code(one, path)
    assert one.output.vouched == {path}


def test_the_key_is_its_users_alone_and_made_once(tmp_path: Path, state: Path) -> None:
    first = signing.sign("text")
    key = state / "fttool" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == signing.BYTES
    assert signing.sign("text") == first != signing.sign("other")
    assert first == hmac.new(key.read_bytes(), b"text", hashlib.sha256).hexdigest()
    assert list(key.parent.iterdir()) == [key]


def test_without_a_place_for_a_key_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert signing.sign("text") is None
    assert not checkpoints.is_own(saved(tmp_path))


def test_a_relative_state_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert signing.key_file() == tmp_path / ".local" / "state" / "fttool" / "key"
