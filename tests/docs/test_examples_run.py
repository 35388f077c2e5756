"""The commands that `--help`, the README and the docs show do what they are shown for, as they stand.

Each begins in a folder that has all it speaks of, and nothing of what it makes. What a large model, another machine or
minutes are needed for is not run: of that the recipe and the keys are held to what there is.
"""

from __future__ import annotations

import importlib
import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fttool.cli import VERBS, main

from .commands import OURS, PAGES, ROOT, Command, command, shown_on
from .workshop import build

CLASSIFICATION = ROOT / "docs" / "classification.md"
"""There my.toml is a recipe of another task."""
SHARDED = ("probe", "render")
"""For these my.toml is one of several processes."""
NOT_RUN = re.compile(
    r"(audit|decide) .*--measure|run (recipes/|quickstart\.toml)|probe |run .*--nodes |"
    r"sweep (?!.*--(trials|sampler grid))"
)


def _examples() -> Iterator[tuple[Command, str]]:
    """Each command, and the recipe that is `my.toml` where it stands."""
    for asked, page in _shown():
        task = "spam" if page == CLASSIFICATION else "my"
        yield asked, "sharded" if asked.verb in SHARDED else task


def _shown() -> Iterator[tuple[Command, Path | None]]:
    """Each command that can be run, and the page that shows it; None: `--help`."""
    for verb in (*VERBS, *OURS):
        module = importlib.import_module(
            f"fttool.cli.{verb}" if verb in VERBS else f"fttool_plugins.verbs.{verb.replace('-', '_')}"
        )
        lines = [line for line in module.EXAMPLES.splitlines() if line.startswith("  fttool ")]
        yield from ((command(line.removeprefix("  fttool ")), None) for line in lines)
    for page in PAGES:
        yield from ((asked, page) for asked in shown_on(page) if asked.is_whole)


ELSEWHERE = re.compile(r"check-template .*--against (http|model|URL)")
"""What asks a server, or a file that is not here: tested with its verb."""
SILENT = re.compile(r"rows .*--json$")
"""What prints a line for each row that is dropped, of which there is none here."""
EXAMPLES = [one for one in dict.fromkeys(_examples()) if not ELSEWHERE.match(str(one[0]))]
RUN = [pytest.param(*one, id=str(one[0])) for one in EXAMPLES if not NOT_RUN.match(str(one[0]))]
READ = [pytest.param(*one, id=str(one[0])) for one in EXAMPLES if NOT_RUN.match(str(one[0]))]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The folder as it was built, and the place where it was, to which it is copied for each command."""
    place = tmp_path_factory.mktemp("docs") / "here"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        build(place)
    aside = place.with_name("kept")
    place.rename(aside)
    yield aside, place


@pytest.fixture
def here(kept: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    aside, place = kept
    shutil.copytree(aside, place)
    (place / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(place)
    yield place
    monkeypatch.undo()
    shutil.rmtree(place)


def become(recipe: str) -> None:
    """Let my.toml be that recipe, and runs/my its run, if it has one."""
    if recipe != "my":
        shutil.copyfile(f"{recipe}.toml", "my.toml")
    if recipe != "my" and Path("runs", recipe).is_dir():
        shutil.rmtree("runs/my")
        shutil.copytree(f"runs/{recipe}", "runs/my")


def make_way(asked: Command, here: Path) -> None:
    """Take away what the command is to make."""
    if asked.verb == "init":
        (here / "my.toml").unlink()
    elif asked.words == ("formats", "rows.jsonl"):
        shutil.copyfile(here / "chats.jsonl", here / "rows.jsonl")
    elif asked.verb == "cache":
        (here / "prepared").mkdir()
    elif asked.verb == "run" and "--resume" in asked.words:
        shutil.rmtree(here / "runs" / "my" / "model")
    elif asked.verb == "run":
        shutil.rmtree(here / "runs" / "my")
    elif asked.verb == "merge" and "-o" not in asked.words:
        assert not list(here.glob("runs/*/model-*"))
    if asked.words[:2] == ("generate", "merged"):
        shutil.copytree(here / "runs" / "my" / "model", here / "merged")


def as_a_shell(words: tuple[str, ...]) -> list[str]:
    """With patterns expanded, and RUN as one of the runs."""
    placed = ["runs/my" if word == "RUN" else word for word in words]
    return [found for word in placed for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]


@pytest.mark.full
@pytest.mark.parametrize(("asked", "recipe"), RUN)
def test_it_runs(
    asked: Command, recipe: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(recipe)
    make_way(asked, here)
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    if asked.stdin:
        monkeypatch.setattr(sys, "stdin", io.StringIO(Path(asked.stdin).read_text(encoding="utf-8")))
    code = main(as_a_shell(asked.words))
    said = capsys.readouterr()
    assert code == 0, said.err
    made = {path for path in here.rglob("*") if before.get(path) != path.stat().st_mtime_ns}
    assert said.out.strip() or made or SILENT.match(str(asked)), "it neither prints nor writes anything"


@pytest.mark.parametrize(("asked", "recipe"), READ)
def test_its_recipe_and_its_keys_are_known(
    asked: Command, recipe: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    become(recipe)
    named = next(word for word in asked.words if word.endswith(".toml"))
    flags = [place for place, word in enumerate(asked.words) if word == "--set"]
    overrides = [word for place in flags for word in asked.words[place : place + 2]]
    assert main(["validate", named, "--no-rows", *overrides]) == 0, capsys.readouterr().err


def test_what_does_not_work_is_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the above asserts can fail."""
    assert main(as_a_shell(("compare", "runs/nobody"))) == 2
    assert main(["validate", "my.toml", "--set", "schedule.warmth=1"]) == 3
    assert as_a_shell(("compare", "runs/[ab]*")) == ["compare", "runs/a", "runs/b"]
    capsys.readouterr()
