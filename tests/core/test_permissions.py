"""What a run writes has the rights that its user's umask leaves, whichever library wrote it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from fttool.permissions import apply_umask
from fttool.testing import run_recipe


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def unusual(folder: Path, umask: int) -> dict[str, str]:
    """Files and folders with other rights than a program gets that just writes them."""
    wanted = {True: 0o777 & ~umask, False: 0o666 & ~umask}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    return {str(path): oct(mode) for path, mode in modes.items() if mode != wanted[path.is_dir()]}


def test_of_a_run(tmp_path: Path, fttool_recipe: dict[str, Any], umask: int) -> None:
    fttool_recipe["run"] |= {"max_steps": 2}
    fttool_recipe["checkpoints"] = {"every": 1}
    run = run_recipe(fttool_recipe, tmp_path)
    assert run.exit_code == 0 and (run.run_dir / "model" / "model.safetensors").is_file()
    assert unusual(run.run_dir, umask) == {}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    (tmp_path / "mine").chmod(0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "mine")
    apply_umask(tmp_path / "folder")
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o600
