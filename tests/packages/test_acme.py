"""A stranger's package from its wheel to a run: built, installed, found, used, and missed once it is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomli

from fttool.contracts import FAMILIES

PACKAGE = Path(__file__).parent / "fttool-acme"
STRATEGIES = {
    "model": "acme.soup",
    "reader": "acme.sqlite",
    "format": "acme.multiple-choice",
    "filter": "acme.no-urls",
    "mixing": "acme.capped",
    "masking": "acme.after",
    "batching": "acme.longest-first",
    "freezing": "acme.every-other",
    "layer_rates": "acme.slow-embeddings",
    "optimizer": "acme.signum",
    "schedule": "acme.drops",
    "regularizer": "acme.tail-average",
    "precision": "acme.bf16-on-gpu",
    "sharding": "acme.one-of-many",
    "task": "acme.dft",
    "metric": "acme.top5",
}
"""Its first strategy of each family."""
MORE = {
    "acme.r-drop",
    "acme.median-loss",
    "acme.whole-sentences",
    "acme.refusals",
    "acme.token-budget",
    "acme.repetitive",
}
"""And what it has beside them."""


def call(*words: str, site: Path | None = None, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python command in a process of its own, with the folder `site` where installed packages are looked for."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = call("-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(PACKAGE))
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    installed = call("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel))
    assert installed.returncode == 0, installed.stderr
    return folder


@pytest.fixture
def quiz(tmp_path: Path) -> Path:
    """A copy of the package's recipes; their runs go into the folder above it."""
    return Path(shutil.copytree(PACKAGE / "recipes", tmp_path / "recipes")) / "quiz.toml"


def test_the_wheel_holds_the_package_and_its_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        text = archive.read(points).decode()
    assert {name.split("/")[0] for name in names} == {"fttool_acme", "fttool_acme-1.2.3.dist-info"}
    assert "[fttool.v1]\nacme = fttool_acme" in text
    assert "[fttool.commands.v1]\nacme-curve = fttool_acme.curve:main" in text


def test_it_knows_fttool_by_its_api_alone() -> None:
    lines = [line.strip() for file in PACKAGE.rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()]
    imported = {line.split()[1] for line in lines if line.startswith(("import fttool", "from fttool"))}
    assert {name for name in imported if not name.startswith("fttool_acme")} == {
        "fttool.api",
        "fttool.testing",
        "fttool.verbs",
    }


@pytest.mark.full
def test_its_own_tests_pass(site: Path) -> None:
    tests = call("-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests"), site=site, folder=PACKAGE)
    assert tests.returncode == 0, tests.stdout


def test_its_strategies_are_listed_and_explained(site: Path) -> None:
    listed = json.loads(call("-m", "fttool", "plugins", "--json", site=site).stdout)
    acme = [row for row in listed if row["distribution"] == "fttool-acme"]
    assert {row["family"]: row["id"] for row in acme if row["id"] not in MORE} == STRATEGIES
    assert set(STRATEGIES) == set(FAMILIES) and len(acme) == len(FAMILIES) + len(MORE)
    same = {"plugin": "acme", "version": "1.2.3", "status": "installed", "error": None}
    assert all(row.items() >= same.items() for row in acme)
    page = call("-m", "fttool", "plugins", "show", "acme.tail-average", site=site).stdout
    assert "fttool-acme 1.2.3" in page
    assert "[[regularizers]]" in page


def test_its_verb_is_a_verb(site: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n', encoding="utf-8")
    drawn = call("-m", "fttool", "acme-curve", str(tmp_path), site=site)
    assert (drawn.returncode, drawn.stdout.splitlines()[-1]) == (0, "█▁")
    listed = call("-m", "fttool", "--help", site=site).stdout
    assert re.search(r"^ +acme-curve +draw how a number of a run went", listed, re.MULTILINE)
    gone = call("-m", "fttool", "acme-curve")
    assert gone.returncode == 2
    assert "unknown command 'acme-curve'" in gone.stderr


def test_its_rule_is_asked(site: Path, quiz: Path) -> None:
    words = ["validate", str(quiz), "--advise", "--json"]
    told = json.loads(call("-m", "fttool", *words, "--set", "run.global_batch=16", site=site).stdout)
    (said,) = [one for one in told["advice"] if one["id"] == "acme-last-update"]
    assert said["where"] == "--set run.global_batch" and said["figures"] == {"rows": 1}
    told = json.loads(call("-m", "fttool", *words, "--set", 'advice.ignore=["acme-last-update"]', site=site).stdout)
    assert told["ignored"] == ["acme-last-update"]


@pytest.mark.full
def test_a_run_uses_all_of_it(site: Path, quiz: Path, fttool_tiny_model: Path) -> None:
    """The package's recipe as it stands, but for the model; its own tests run the one with its model source."""
    from safetensors.torch import load_file

    words = ["run", str(quiz), "--set", f"model.source={fttool_tiny_model}"]
    run = call("-m", "fttool", *words, site=site, folder=quiz.parent.parent)
    assert run.returncode == 0, run.stderr
    folder = quiz.parent.parent / "runs" / "quiz"

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates, steps = [line["lr"] for line in lines if "lr" in line], summary["steps"]
    assert rates == pytest.approx([1e-4] * (steps // 2) + [1e-5] * (steps // 2))
    assert 0 <= summary["eval"]["after"]["acme.top5"] <= 1
    assert summary["dropped_rows"] == {"has a web address": 1}

    before = load_file(fttool_tiny_model / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert {name for name, far in moved.items() if far} == {n for n in before if n.startswith("model.layers.0.")}
    assert max(moved.values()) <= sum(rates) * 1.001  # signum moves a weight by the rate, and no further

    diary = (folder / "acme-diary.txt").read_text(encoding="utf-8").splitlines()
    assert diary[:2] == ["loaded a recipe with schedule acme.drops", f"started {steps} updates"]
    assert diary[-1] == f"finished after {steps} updates"
    assert f"saved checkpoint-{steps}" in diary

    resolved = tomli.loads((folder / "recipe.resolved.toml").read_text(encoding="utf-8"))
    assert resolved["freezing"] == {"name": "acme.every-other", "first": 0}
    locked = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
    assert locked["plugins"] == [{"name": "acme", "distribution": "fttool-acme", "version": "1.2.3"}]


def test_every_strategy_stands_in_a_recipe() -> None:
    recipes = "".join(file.read_text(encoding="utf-8") for file in (PACKAGE / "recipes").glob("*.toml"))
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    for family, name in STRATEGIES.items():
        if family != "reader":  # a database is no file for a repository: the package's own tests make one
            assert f'"{name}' in recipes, name
        assert f"| `{name}` | {family} |" in readme, name
        assert f"`{family}.py`" in readme and (PACKAGE / "src" / "fttool_acme" / f"{family}.py").is_file()


def test_without_the_package_its_recipe_says_what_is_missing(quiz: Path) -> None:
    for verb in ("validate", "run"):
        gone = call("-m", "fttool", verb, str(quiz), folder=quiz.parent.parent)
        assert gone.returncode == 6
        assert "no installed plugin is named 'acme'" in gone.stderr
        assert "install the package whose ids start with 'acme.'" in gone.stderr
        assert "Traceback" not in gone.stderr
    assert not (quiz.parent.parent / "runs").exists()
