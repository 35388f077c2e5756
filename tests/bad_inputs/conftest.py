"""A recipe that runs, a command line to break it with, and plugins that look installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main

from ..rows import write_rows

SCREEN = 24
"""Lines of a terminal."""


@dataclass(frozen=True)
class Answer:
    """What a call of fttool did."""

    code: int
    out: str
    err: str
    runs: Path
    """The output folder that it was given."""

    def refuses(self, code: int, *said: str, where: str = "") -> None:
        """The exit code, one screen without a traceback that says all this at that place, and nothing on disk."""
        assert self.code == code, self.err or self.out
        lines = self.err.splitlines()
        assert len(lines) <= SCREEN, self.err
        assert "Traceback" not in self.err
        assert [text for text in said if text not in self.err] == [], self.err
        assert any(line.startswith(f"{where}: ") for line in lines) or not where, self.err
        assert any(line.startswith("    ") for line in lines), f"no word of what to do next: {self.err}"
        assert not self.runs.exists() or not list(self.runs.iterdir())


class Shell:
    """The working directory, with a recipe in it, and fttool."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.toml"
        self.runs = folder / "runs"
        self._capture = capture

    def write(self, recipe: str | dict[str, Any]) -> str:
        """Write the recipe; returns its text."""
        text = recipe if isinstance(recipe, str) else dumps(recipe)
        self.recipe.write_text(text, encoding="utf-8")
        return text

    def place(self, text: str, last: bool = False) -> str:
        """`file:line:column` of a text in the recipe, its first or last."""
        source = self.recipe.read_text(encoding="utf-8")
        at = source.rindex(text) if last else source.index(text)
        return f"{self.recipe}:{source.count(chr(10), 0, at) + 1}:{at - source.rfind(chr(10), 0, at)}"

    def call(self, verb: str, *words: str) -> Answer:
        """Call fttool on the recipe."""
        return self.main(verb, str(self.recipe), *words)

    def run(self, recipe: str | dict[str, Any], *words: str) -> Answer:
        """Write the recipe and run it."""
        self.write(recipe)
        return self.call("run", *words)

    def main(self, *words: str) -> Answer:
        """Call fttool."""
        self._capture.readouterr()
        try:
            code = main(list(words))
        except SystemExit as left:  # as argparse does
            code = left.code if isinstance(left.code, int) else 1
        captured = self._capture.readouterr()
        return Answer(code, captured.out, captured.err, self.runs)


@pytest.fixture
def shell(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capfd)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Eight conversations, to be overwritten."""
    path = tmp_path / "rows.jsonl"
    turns = [
        [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"{n} is {n}."}]
        for n in range(8)
    ]
    write_rows(path, ({"messages": each} for each in turns))
    return path


@pytest.fixture
def recipe(fttool_tiny_model: Path, rows: Path) -> dict[str, Any]:
    """Two updates."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # fttool says so in the environment, which is read once a process
    return {
        "recipe": 1,
        "run": {"max_steps": 2, "micro_batch": 2, "log_every": 1},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": rows.name, "format": "messages"}]},
        "batching": {"name": "padded", "max_length": 512},
        "schedule": {"name": "constant", "warmup": 0.0},
        "precision": {"name": "fp32"},
    }


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self, source: str, *, version: str = "1.0", group: str = "fttool.v1", target: str = "acme_plugin"
    ) -> None:
        """Install the distribution `dist-acme` with the plugin `acme`, instead of any other version of it."""
        self.uninstall()
        metadata = self.folder / f"dist_acme-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-acme\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[{group}]\nacme = {target}\n")
        (self.folder / "acme_plugin.py").write_text(source, encoding="utf-8")

    def uninstall(self) -> None:
        """Nothing is installed, and nothing of it imported."""
        self.forget()
        for path in sorted(self.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def forget(self) -> None:
        """Nothing of it is imported any more."""
        importlib.invalidate_caches()
        sys.modules.pop("acme_plugin", None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions within a second would share one
    made = Site(folder)
    yield made
    made.forget()
