"""A stranger's package from its wheel to a run: built, installed, found, used, and missed once it is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w

PACKAGE = Path(__file__).parent / "fttool-acme"


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
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> Path:
    """A recipe with everything that the package brings."""
    path = tmp_path / "recipe.toml"
    everything = {
        **fttool_recipe,
        "run": {"output": str(tmp_path / "runs"), "max_steps": 4, "micro_batch": 2, "log_every": 1},
        "data": {**fttool_recipe["data"], "eval_share": 0.2},
        "filters": [{"name": "acme.no-urls"}],
        "freezing": "acme.every-other",
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "acme.trapezoid", "climb": 0.5, "fall": 0.5},
        "regularizers": [{"name": "acme.ema", "decay": 0.5}],
        "evaluation": {"metrics": ["loss", "acme.top5"], "best": "acme.top5", "samples": 1, "sample_tokens": 4},
        "plugins": {"observe": ["acme"]},
    }
    path.write_text(tomli_w.dumps(everything), encoding="utf-8")
    return path


def test_the_wheel_holds_the_package_and_its_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        text = archive.read(points).decode()
    assert {name.split("/")[0] for name in names} == {"fttool_acme", "fttool_acme-1.2.3.dist-info"}
    assert "[fttool.v1]\nacme = fttool_acme" in text
    assert "[fttool.commands.v1]\nacme-hello = fttool_acme.hello:main" in text


def test_it_knows_fttool_by_its_api_alone() -> None:
    lines = [line.strip() for file in PACKAGE.rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()]
    imported = {line.split()[1] for line in lines if line.startswith(("import fttool", "from fttool"))}
    assert {name for name in imported if not name.startswith("fttool_acme")} == {"fttool.api", "fttool.testing"}


@pytest.mark.slow
def test_its_own_tests_pass(site: Path) -> None:
    tests = call("-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests"), site=site, folder=PACKAGE)
    assert tests.returncode == 0, tests.stdout


def test_its_strategies_are_listed_and_explained(site: Path) -> None:
    listed = json.loads(call("-m", "fttool", "plugins", "--json", site=site).stdout)
    acme = [row for row in listed if row["distribution"] == "fttool-acme"]
    assert {(row["id"], row["family"]) for row in acme} == {
        ("acme.trapezoid", "schedule"),
        ("acme.no-urls", "filter"),
        ("acme.every-other", "freezing"),
        ("acme.ema", "regularizer"),
        ("acme.top5", "metric"),
    }
    same = {"plugin": "acme", "version": "1.2.3", "status": "installed", "error": None}
    assert all(row.items() >= same.items() for row in acme)
    page = call("-m", "fttool", "plugins", "show", "acme.ema", site=site).stdout
    assert "fttool-acme 1.2.3" in page
    assert "[[regularizers]]" in page


def test_its_verb_is_a_verb(site: Path) -> None:
    hello = call("-m", "fttool", "acme-hello", "plugins", site=site)
    assert (hello.returncode, hello.stdout) == (0, "hello, plugins\n")
    assert "acme-hello from fttool-acme" in call("-m", "fttool", "--help", site=site).stdout
    gone = call("-m", "fttool", "acme-hello")
    assert gone.returncode == 2
    assert "there is no verb 'acme-hello'" in gone.stderr


@pytest.mark.slow
def test_a_run_uses_all_of_it(site: Path, recipe: Path, fttool_tiny_model: Path) -> None:
    from safetensors.torch import load_file

    run = call("-m", "fttool", "run", str(recipe), site=site)
    assert run.returncode == 0, run.stderr
    folder = recipe.parent / "runs" / "recipe"

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["lr"] for line in lines if "lr" in line] == pytest.approx([0.005, 0.01, 0.01, 0.005])
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert 0 <= summary["eval"]["after"]["acme.top5"] <= 1

    before = load_file(fttool_tiny_model / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if name.startswith("model.layers.0.")}

    diary = (folder / "acme-diary.txt").read_text(encoding="utf-8").splitlines()
    assert diary[:2] == ["loaded a recipe with schedule acme.trapezoid", "started 4 updates"]
    assert diary[-1] == "finished after 4 updates"
    assert "saved checkpoint-4" in diary

    resolved = tomli.loads((folder / "recipe.resolved.toml").read_text(encoding="utf-8"))
    assert resolved["freezing"] == {"name": "acme.every-other", "first": 0}
    locked = json.loads((folder / "lock.json").read_text(encoding="utf-8"))
    assert locked["plugins"] == [{"name": "acme", "distribution": "fttool-acme", "version": "1.2.3"}]


def test_without_the_package_its_recipe_says_what_is_missing(recipe: Path) -> None:
    for verb in ("validate", "run"):
        gone = call("-m", "fttool", verb, str(recipe))
        assert gone.returncode == 6
        assert "no installed plugin is named 'acme'" in gone.stderr
        assert "install the package whose ids start with 'acme.'" in gone.stderr
        assert "Traceback" not in gone.stderr
    assert not (recipe.parent / "runs").exists()
