"""What stands around the code is true: workflows, hooks, make targets, tiers of tests, and how a release is made."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from fttool.contracts import FAMILIES

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SHEETS = sorted({*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"})
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
KNOWN = ("pip", "python", "make", "fttool", "pytest", "ruff", "pyright", "lint-imports", "mkdocs", "sudo")
"""Programs that a step may call beside the scripts in `.ci`."""


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def targets() -> dict[str, list[str]]:
    """Target of the Makefile → its commands."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if head := re.match(r"([a-z-]+):$", line):
            name = head[1]
            found[name] = []
        elif line.startswith("\t"):
            found[name].append(line.strip())
    return found


def unknown(command: str) -> list[str]:
    """What a command names that is not there: a program, a make target, a file of ours."""
    words = command.split()
    wrong = [word for word in words if re.match(r"(\.ci|tests|docs|recipes|core|plugins)/", word) and not there(word)]
    if words[0] == "make":
        wrong += [word for word in words[1:] if word not in targets()]
    elif words[0].startswith(".ci/"):
        wrong += [] if os.access(ROOT / words[0], os.X_OK) else [f"{words[0]} cannot be called"]
    elif words[0] not in KNOWN:
        wrong.append(words[0])
    return wrong


def there(word: str) -> bool:
    return (ROOT / word).exists()


def steps(workflow: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in load(workflow)["jobs"].items():
        for step in job["steps"]:
            yield name, step


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.name)
def test_it_is_yaml_with_something_in_it(sheet: Path) -> None:
    assert isinstance(load(sheet), dict) and load(sheet)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: one.stem)
def test_a_workflows_commands_are_there(workflow: Path) -> None:
    commands = [line for _, step in steps(workflow) for line in step.get("run", "").splitlines()]
    assert commands
    assert {line: wrong for line in commands if (wrong := unknown(line))} == {}


def test_what_is_not_there_is_found() -> None:
    assert unknown("make tests") == ["tests"] and unknown("make quick") == []
    assert unknown(".ci/runs") == [".ci/runs", ".ci/runs cannot be called"] and unknown(".ci/run") == []
    assert unknown("python .ci/no.py") == [".ci/no.py"] and unknown("tox") == ["tox"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda one: one.stem)
def test_a_job_may_read_alone_ends_and_waits_for_jobs_that_there_are(workflow: Path) -> None:
    sheet = load(workflow)
    assert sheet["permissions"] == {"contents": "read"}
    for name, job in sheet["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        needed = job.get("needs", [])
        assert {needed} if isinstance(needed, str) else set(needed) <= sheet["jobs"].keys(), name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@[\w./]+", step["uses"]), step


def test_each_python_that_is_promised_is_tried() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    promised = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE)
    assert promised[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert jobs["quick"]["strategy"]["matrix"]["python"] == promised
    tried = jobs["tests"]["strategy"]["matrix"]["include"]
    assert [one["python"] for one in tried if one["dependencies"] == "newest"] == promised
    assert [one["python"] for one in tried if one["dependencies"] == "oldest"] == promised[:1]


def test_ci_does_what_a_release_needs() -> None:
    every = {line for one in WORKFLOWS for _, step in steps(one) for line in step.get("run", "").splitlines()}
    assert {
        "make lint",
        "make quick",
        "make test",
        "make coverage",
        "make site",
        ".ci/run",
        ".ci/package",
        ".ci/prereleases",
    } <= every
    publish = load(ROOT / ".github" / "workflows" / "release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}, "PyPI trusts the workflow; there is no token to lose"
    assert not re.search(r"secrets\.|password", (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))


def test_each_job_that_tests_has_the_shells_whose_completion_is_tried() -> None:
    for name, job in load(ROOT / ".github" / "workflows" / "ci.yml")["jobs"].items():
        commands = "\n".join(step.get("run", "") for step in job["steps"])
        if re.search(r"^(make (quick|test|coverage)|\.ci/run)$", commands, re.MULTILINE):
            assert "sudo apt-get install --yes zsh fish" in commands, name


def test_hooks_call_what_is_installed_for_the_tests() -> None:
    hooks = [hook for repo in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["entry"]: wrong for hook in hooks if (wrong := unknown(hook["entry"]))} == {}
    assert all(re.compile(hook["files"]) for hook in hooks if "files" in hook)


def test_a_strategy_can_be_proposed_for_each_family() -> None:
    body = load(ROOT / ".github" / "ISSUE_TEMPLATE" / "strategy.yml")["body"]
    (asked,) = [field for field in body if field.get("id") == "family"]
    assert asked["attributes"]["options"] == [*FAMILIES, "none of them"]


def test_tests_of_core_lie_as_the_files_do() -> None:
    core, tests = ROOT / "core" / "fttool", ROOT / "tests" / "core"
    folders = {one.relative_to(tests).as_posix() for one in tests.rglob("*") if one.is_dir() and one.name[0] != "_"}
    assert folders and {one for one in folders if not (core / one / "__init__.py").is_file()} == set()
    files = {path.relative_to(core) for path in core.rglob("*.py")}
    for path in tests.rglob("test_*.py"):
        tested = path.relative_to(tests).with_name(path.name.removeprefix("test_"))
        elsewhere = {file for file in files if file.name == tested.name}
        assert not elsewhere or tested in elsewhere, f"{path} tests {elsewhere}"


# -- make, and the tiers of tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    named = [
        word
        for found in re.findall(r"`make ([a-z -]+)`|^make ([a-z -]+)$", page.read_text(), re.M)
        for word in " ".join(found).split()
    ]
    assert named and set(named) <= targets().keys()


def test_every_make_target_is_phony_explained_and_calls_what_there_is() -> None:
    text, guide = (ROOT / "Makefile").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony.split() == list(targets())
    assert {name for name in targets() if f"`make {name}`" not in guide} == set()
    commands = [command for some in targets().values() for command in some]
    assert {one: wrong for one in commands if (wrong := unknown(one))} == {}
    for program in {command.split()[0] for command in commands} - {"python", "mkdocs"}:  # of the extra `docs`
        assert shutil.which(program) or program.startswith(".ci/"), program


@pytest.mark.full
def test_pytest_alone_leaves_out_what_is_full_and_what_is_named_is_run(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n\ndef test_quick(): ...\n\n\n@pytest.mark.full\ndef test_long(): ...\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = full: takes long\ntestpaths = .\n")

    def collected(*words: str) -> set[str]:
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        passed = "".join(line for line in done.stdout.splitlines() if "PASSED" in line)
        return {name for name in ("test_quick", "test_long") if name in passed}

    assert collected() == collected("-n", "2") == {"test_quick"}
    assert collected("test_it.py") == collected("-m", "full or not full") == {"test_quick", "test_long"}
    assert collected("-m", "full") == {"test_long"}


def test_all_tests_are_run_before_a_change_is_taken() -> None:
    whole = '-m "full or not full"'
    assert f"pytest -n 2 {whole}" in (ROOT / ".ci" / "run").read_text()
    assert f"ALL := {whole}\n" in (ROOT / "Makefile").read_text() and targets()["full"] == ["pytest -n auto $(ALL)"]
    (quick,) = targets()["quick"]
    assert '-m "not full"' in quick, "it names folders, of which all would be run"


# -- scripts ---------------------------------------------------------------------------------------------------------


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["run", "package", "prereleases"])
def test_a_script_is_one(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / name)], check=True)
    assert os.access(ROOT / ".ci" / name, os.X_OK)


def test_the_oldest_versions_are_those_that_the_project_lets_in() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "lowest.py"), "--constraints"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert printed == [one.replace(">=", "==") + ".*" for one in PROJECT["project"]["dependencies"]]


def test_a_release_is_cut_and_its_tag_is_checked(tmp_path: Path) -> None:
    release = script("release")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    before = (tmp_path / "CHANGELOG.md").read_text()
    assert len(release.faults(tmp_path, "v9.8.7")) == 2
    release.cut(tmp_path, "9.8.7", "2031-02-03")
    assert release.faults(tmp_path, "v9.8.7") == []
    assert release.faults(tmp_path, "9.8.7") == ["'9.8.7' is not a tag like v0.2.0"]
    after = (tmp_path / "CHANGELOG.md").read_text()
    assert after.replace("\n## [9.8.7] - 2031-02-03\n", "", 1) == before
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["version"] == "9.8.7"
    for version, said in (("9.8.7", "nothing under"), ("9.8", "not a version")):
        with pytest.raises(SystemExit, match=said):
            release.cut(tmp_path, version, "2031-02-04")


def test_a_file_of_core_below_the_floor_is_named() -> None:
    floor = script("floor")

    def covered(**percents: float) -> dict[str, Any]:
        return {"files": {name: {"summary": {"percent_covered": value}} for name, value in percents.items()}}

    asked = floor.FLOOR
    report = covered(**{"core/fttool/a.py": asked, "core/fttool/b.py": asked - 1, "plugins/c.py": 0})
    assert floor.below(report) == [f"core/fttool/b.py: {asked - 1}%, of which {asked}% are asked"]
    for name, (lowest, why) in floor.OWN.items():
        assert (ROOT / name).is_file() and 0 <= lowest < asked and why
