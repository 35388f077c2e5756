"""The docs are true to the code."""

import inspect
import re
import shlex
import sys
import tomllib
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path
from pkgutil import iter_modules
from string import Template
from types import ModuleType
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from fttool import api, contracts, hookspecs, testing
from fttool.cli import VERBS, main
from fttool.contracts import FAMILIES
from fttool.errors import ExitCode
from fttool.listing import listed
from fttool.plugins import Plugins

from .pages import reference

ROOT = Path(__file__).parents[2]
ACME = ROOT / "tests" / "packages" / "fttool-acme"
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.md")])


def test_the_reference_pages_are_those_of_the_code() -> None:
    for path, text in reference.pages().items():
        assert (ROOT / "docs" / path).read_text() == text, "python docs/reference.py"


@pytest.mark.parametrize(
    "family",
    ["batching", "mixing", "freezing", "layer_rates", "optimizer", "schedule", "regularizer", "precision", "sharding"],
)
def test_a_strategy_says_when_to_use_it_and_what_it_costs(family: str) -> None:
    pages = {one.id(): " ".join((one.__doc__ or "").split()) for one in Plugins.of().family(family)}
    assert {name for name, page in pages.items() if "Use it " not in page or "Cost: " not in page} == set()


def test_every_file_of_the_core_is_listed() -> None:
    page = (ROOT / "docs" / "core.md").read_text()
    core = ROOT / "core" / "fttool"
    rooms = (core, *(core / room for room in ("recipe", "rows", "training", "runs")))
    files = {path.name for room in rooms for path in room.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert {name for name in files if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_each_hook_is_documented_with_its_signature() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    hooks = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("fttool_")}
    for name, hook in hooks.items():
        if name != "fttool_strategies":
            signature = inspect.getsource(hook).split("\n", 1)[1].split(":\n")[0]
            assert f"{signature}: ..." in page, name


def test_the_plugin_page_shows_what_plugins_new_writes() -> None:
    """`plugins new` and what it writes are tested in tests/core/cli/test_new_plugin.py."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    templates = ROOT / "core" / "fttool" / "cli" / "new_plugin"
    code = Template((templates / "plugin.py.template").read_text()).substitute(name="acme")
    assert f"```python\n{code}```" in page
    contract = (templates / "test_plugin.py.template").read_text().partition("class Test")[2].partition("\n\n\n")[0]
    assert f"class Test{contract}\n" in page


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_each_family_has_an_example_in_acme(family: Any) -> None:
    """The page says what `build` yields and links to a file of the package that shows it."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    (row,) = re.findall(rf"^\| `{family.family}` \| .*$", page, re.MULTILINE)
    assert f"`{inspect.signature(family.build).return_annotation}`" in row
    ((name, link),) = re.findall(r"\[(acme\.[a-z0-9-]+)\]\(([^)]+)\)", row)
    source = (ROOT / "docs" / link).resolve()
    assert source == ACME / "src" / "fttool_acme" / f"{family.family}.py"
    assert f'name: Literal["{name}"] = "{name}"' in source.read_text()
    assert re.search(rf"^class \w+\({family.__name__}\):", source.read_text(), re.MULTILINE)


def test_the_api_has_all_that_families_are_made_of() -> None:
    stages = [
        import_module(f"fttool.contracts.{one.name}")
        for one in iter_modules(contracts.__path__)
        if one.name != "recipe"
    ]
    made = {name: value for stage in stages for name, value in vars(stage).items()}
    names = {name for name, value in made.items() if getattr(value, "__module__", "").startswith("fttool.contracts.")}
    assert {name for name in names if not name.startswith("_")} - {"Place"} <= set(api.__all__)


def test_the_plugin_page_names_all_that_authors_test_with() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    assert {name for name in testing.__all__ if not re.search(rf"\b{name}\b", page)} == set()


def test_the_plugin_pages_run_is_a_test_that_passes(
    fttool_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (package,) = re.findall(r'```python\n("""Strategies for fttool.*?)```', page, re.DOTALL)
    (code,) = re.findall(r"```python\n(import fttool_acme\n.*?)```", page, re.DOTALL)
    acme = ModuleType("fttool_acme")
    monkeypatch.setitem(sys.modules, "fttool_acme", acme)
    exec(compile(package, "docs/plugins.md", "exec"), vars(acme))
    defined: dict[str, Any] = {}
    exec(compile(code, "docs/plugins.md", "exec"), defined)
    defined["test_a_run_uses_it"](fttool_recipe, tmp_path)


def test_the_first_run_page_works_word_for_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "first-run.md").read_text()
    (rows,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    Path("chats.jsonl").write_text(rows)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    ours = [shlex.split(line, comments=True) for line in commands if line.startswith("fttool ")]
    assert len(ours) >= 8
    (promised,) = re.findall(r"^fttool generate .*# (.+)$", page, re.MULTILINE)
    for words in ours:
        assert main(words[1:]) == 0, words
        said = capsys.readouterr().out
        assert words[1] != "generate" or said == f"{promised}\n"


def test_each_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "first-run.md").read_text()
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == [code.value for code in ExitCode]


def test_the_readme_names_every_verb() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {verb for verb in VERBS if f"fttool {verb}" not in readme} == set()


def test_ci_runs_the_readmes_commands() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    quickstart = "fttool recipes copy quickstart && fttool run quickstart.toml"
    commands = {"pip install fttool": (quickstart, "pip install ."), "pip install -e '.[test]'": ("pytest", "")}
    for first, (second, in_a_clone) in commands.items():
        assert f"{first} && {second}" in readme and in_a_clone in readme
        assert (in_a_clone or first).replace("install", "install --quiet") in ci and second in ci


def test_docs_tools_and_metadata_speak_of_one_lowest_python() -> None:
    """That it can install what fttool depends on, `.ci/lowest.py` asks pip."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lowest = settings["project"]["requires-python"].removeprefix(">=")
    assert f"You need Python {lowest} or newer" in (ROOT / "docs" / "first-run.md").read_text(encoding="utf-8")
    assert settings["tool"]["pyright"]["pythonVersion"] == lowest
    assert settings["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    for needed in settings["project"]["dependencies"]:
        name = re.split(r"[><=]", needed)[0]
        asks = SpecifierSet(metadata(name)["Requires-Python"] or "")
        assert asks.contains(f"{lowest}.0"), f"{name} needs Python {asks}"


def test_no_sentence_of_the_docs_names_a_missing_strategy() -> None:

    known = {row.id for row in listed(Plugins.discover())}
    for page in (ROOT / "README.md", ROOT / "docs" / "first-run.md"):
        for name in re.findall(r'(?:name|schedule|masking|freezing) = "([a-z0-9-]+)"', page.read_text()):
            assert name in known, name
