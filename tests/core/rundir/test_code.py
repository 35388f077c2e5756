"""Code that changes under one version is noticed, however it is installed."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import fttool
from fttool.cli import main
from fttool.plugins import Plugins
from fttool.rundir.code import code_changes, code_of
from fttool.testing import run_recipe

PLUGIN = """\
from typing import Literal
from fttool.api import Schedule, hookimpl
from {package}.rates import factor

class Flat(Schedule):
    \"\"\"One rate throughout.\"\"\"
    name: Literal["mine.flat"] = "mine.flat"

    def build(self, ctx):
        return factor

@hookimpl
def fttool_strategies():
    return [Flat]

@hookimpl
def fttool_logged(step):
    assert step
"""
RATES = "def factor(step):\n    return 1.0\n"

Install = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path`; the plugin's modules are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two contents within a second would share one
    yield folder
    forget()


def forget() -> None:
    """Nothing of the plugin is imported any more."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("mine_rates", "mine_alone", "acme_labs"):
            del sys.modules[name]
    importlib.invalidate_caches()


def metadata(site: Path, package: str, version: str = "1.0") -> None:
    for old in site.glob("mine_rates-*.dist-info/*"):
        old.unlink()
    folder = site / f"mine_rates-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mine-rates\nVersion: {version}\n")
    (folder / "entry_points.txt").write_text(f"[fttool.v1]\nmine = {package}.plugin\n")


def written(folder: Path, package: str = "mine_rates") -> Path:
    """The package's sources, below a folder."""
    place = folder.joinpath(*package.split("."))
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("")
    (place / "plugin.py").write_text(PLUGIN.format(package=package))
    (place / "rates.py").write_text(RATES)
    return place


def copied(site: Path, _: pytest.MonkeyPatch) -> Path:
    """Installed as from a wheel."""
    metadata(site, "mine_rates")
    return written(site)


def by_path(site: Path, patched: pytest.MonkeyPatch) -> Path:
    """Editable, as hatchling and flit do it: a `.pth` file puts the sources' folder on `sys.path`."""
    metadata(site, "mine_rates")
    (site / "_editable_impl_mine_rates.pth").write_text(f"{site.parent / 'src'}\n")
    patched.syspath_prepend(str(site.parent / "src"))
    return written(site.parent / "src")


def by_finder(site: Path, patched: pytest.MonkeyPatch) -> Path:
    """Editable, as setuptools does it: a finder knows where the package lies."""
    metadata(site, "mine_rates")
    place = written(site.parent / "checkout" / "lib")

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            if name != "mine_rates":
                return None
            return spec_from_file_location(name, place / "__init__.py", submodule_search_locations=[str(place)])

    patched.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    return place


def in_namespace(site: Path, _: pytest.MonkeyPatch) -> Path:
    """A part of a namespace in which another distribution has a part too."""
    metadata(site, "acme_labs.rates")
    (site / "acme_labs" / "other").mkdir(parents=True)
    (site / "acme_labs" / "other" / "__init__.py").write_text("1 / 0\n")
    return written(site, "acme_labs.rates")


LAYOUTS = (copied, by_path, by_finder, in_namespace)


def noted() -> dict[str, Any]:
    return code_of([Plugins.discover().entry("mine")])["mine-rates"]


def expected(place: Path, package: str) -> dict[str, str]:
    return {
        f"{package}/{path.relative_to(place).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*.py"))
    }


# -- what is hashed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: one.__name__)
def test_the_files_of_a_package_are_hashed_and_none_is_imported(
    layout: Install, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = layout(site, monkeypatch)
    (place / "deep").mkdir()
    (place / "deep" / "more.py").write_text("raise SystemExit\n")
    package = "acme_labs/rates" if layout is in_namespace else "mine_rates"
    wanted, before = expected(place, package), noted()
    assert len(wanted) == 4 and before["files"] == wanted and before["version"] == "1.0"
    assert not [name for name in sys.modules if name.startswith(("mine_rates", "acme_labs.rates"))]

    for name in ("__pycache__/rates.cpython-311.pyc", "__pycache__/x.py", ".hidden/x.py", ".#rates.py", "data.txt"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("no code of it")
    os.utime(place / "rates.py", (1, 1))
    assert noted() == before
    (place / "rates.py").write_bytes(RATES.replace("1.0", "1.5").encode())
    after = noted()
    assert after["sha256"] != before["sha256"]
    assert {path for path, content in after["files"].items() if content != before["files"][path]} == {
        f"{package}/rates.py"
    }


def test_installed_in_another_way_the_same_code_has_the_same_hash(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Any]] = []
    for layout in (copied, by_path, by_finder):
        place = layout(site, monkeypatch)
        found.append(noted())
        place.rename(place.with_name("elsewhere"))
        importlib.invalidate_caches()
    assert found[0]["files"] and found[0] == found[1] == found[2]


def test_a_plugin_of_one_module_is_that_file(site: Path) -> None:
    metadata(site, "mine_rates")
    points = site / "mine_rates-1.0.dist-info" / "entry_points.txt"
    points.write_text("[fttool.v1]\nmine = mine_alone:Plugin\n[console_scripts]\nmine = lost_module:main\n")
    (site / "mine_alone.py").write_text("x = 1\n")
    (site / "not_mine.py").write_text("x = 2\n")
    assert noted()["files"] == {"mine_alone.py": hashlib.sha256(b"x = 1\n").hexdigest()}


def test_fttool_itself_is_core_and_its_plugins_hashed_without_torch() -> None:
    """Its `lock.json` entry has each of its files; a launcher, which imports no torch, could ask for it."""
    script = (
        "import json, sys; from fttool.plugins import Plugins; from fttool.rundir.code import code_of;"
        "code = code_of(Plugins.of().entries); assert 'torch' not in sys.modules; print(json.dumps(code))"
    )
    code = json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)
    core = Path(fttool.__file__).parent
    plugins = Path(importlib.import_module("fttool_plugins").__path__[0])
    assert list(code) == ["fttool"]
    assert code["fttool"]["files"] == expected(core, "fttool") | expected(plugins, "fttool_plugins")


# -- what is said --------------------------------------------------------------------------------------------------


def test_files_that_changed_came_or_went_are_named_under_the_same_version_only() -> None:
    def lock(version: str, sha256: str, **files: str) -> dict[str, Any]:
        return {"mine": {"version": version, "sha256": sha256, "files": files}}

    before = lock("1.0", "a", one="1", two="2", three="3")
    assert code_changes(before, before) == []
    assert code_changes(before, lock("1.0", "b", one="9", two="2", four="4")) == [
        "the code of mine 1.0 has changed under the same version (changed: one; new: four; gone: three): "
        "results may differ"
    ]
    assert code_changes(before, lock("1.1", "b")) == [] == code_changes(before, {})
    (many,) = code_changes(before, lock("1.0", "c", **before["mine"]["files"], **{f"f{n}": "" for n in range(7)}))
    assert "(new: f0, f1, f2, f3, f4, 2 more)" in many


@pytest.mark.parametrize("layout", [copied, by_path], ids=lambda one: one.__name__)
def test_a_resumed_run_says_which_code_has_changed(
    layout: Install,
    site: Path,
    tmp_path: Path,
    fttool_recipe: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = layout(site, monkeypatch)
    recipe = fttool_recipe | {"schedule": "mine.flat", "evaluation": {"samples": 0}}
    assert run_recipe(recipe, tmp_path, overrides=["run.max_steps=2"]).error is None
    same = run_recipe(recipe, tmp_path, overrides=["run.max_steps=3"], resume=True)
    assert same.error is None and "code_changed" not in {event["event"] for event in same.events}

    (place / "rates.py").write_text(RATES.replace("1.0", "1.0 + 0 * step"))
    forget()
    other = run_recipe(recipe, tmp_path, overrides=["run.max_steps=4"], resume=True)
    assert other.error is None
    (said,) = [event["text"] for event in other.events if event["event"] == "code_changed"]
    assert said.startswith("the code of mine-rates 1.0 has changed under the same version")
    assert "(changed: mine_rates/rates.py)" in said


def test_a_run_that_branches_off_says_so_too(
    site: Path, tmp_path: Path, fttool_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a plugin that only watches as well: it is code in the run."""
    place = copied(site, monkeypatch)
    recipe = fttool_recipe | {
        "run": {"max_steps": 4, "micro_batch": 2, "log_every": 1},
        "schedule": {"name": "wsd", "warmup": 0, "decay": 2},
        "checkpoints": {"every": 1, "keep": 9},
        "evaluation": {"samples": 0},
        "plugins": {"observe": ["mine"]},
    }
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    (place / "new.py").write_text("")
    assert main(["decay", str(run.run_dir), "-q", "--from", "2", "--steps", "2", "--name", "short"]) == 0
    lines = (run.run_dir.with_name("short") / "events.jsonl").read_text().splitlines()
    (said,) = [event["text"] for event in map(json.loads, lines) if event["event"] == "code_changed"]
    assert "mine-rates 1.0" in said and "(new: mine_rates/new.py)" in said
