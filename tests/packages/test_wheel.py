"""fttool's own wheel: what an index shows of it, and that what README says first works from it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest
import tomli

ROOT = Path(__file__).parents[2]
SOURCE = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


def test_the_wheel_has_the_recipes_their_rows_and_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name.removeprefix("fttool_plugins/recipes/") for name in names if "fttool_plugins/recipes/" in name}
    shipped = {str(path.relative_to(ROOT / "recipes")) for path in (ROOT / "recipes").glob("*.toml")}
    rows = {str(path.relative_to(ROOT / "recipes")) for path in (ROOT / "recipes" / "data").iterdir()}
    assert shipped | rows | {"recipe.schema.json", "spam/unpack.py", "tiny_chat/prepare.py"} <= inside
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fttool", "fttool_plugins"}
    assert not [name for name in names if "/mails/" in name or "/build/" in name or "__pycache__" in name]


def test_the_index_is_given_addresses(metadata: Message) -> None:
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL") or [])
    assert set(urls) >= {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert all(url.startswith("https://") for url in urls.values())


def test_each_link_of_the_readme_leads_from_the_index_to_a_file_of_the_tree(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    shown = metadata.get_payload()
    assert isinstance(shown, str)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(found) == len(re.findall(r"\]\(", readme)) > 10
    for link in found:
        assert link.startswith(f"{SOURCE}/"), link
        kind, _, path = link.removeprefix(f"{SOURCE}/").partition("/HEAD/")
        target = ROOT / path.partition("#")[0]
        file = "raw" if target.suffix in (".png", ".svg") else "blob"
        assert target.is_dir() if kind == "tree" else (kind == file and target.is_file()), link
    without_links = re.compile(r"\]\([^)]+\)")
    assert without_links.sub("]()", shown).strip() == without_links.sub("]()", readme).strip()


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_are_no_paths_stay(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    text = "[a](https://x.org/b) [c](#d) [e](mailto:f@g.org) [h](docs/) [i](docs/j.md#k) [l](m.md) ![n](docs/o.png)"
    assert hook().absolute(text, "S", tmp_path) == (
        "[a](https://x.org/b) [c](#d) [e](mailto:f@g.org) [h](S/tree/HEAD/docs/) [i](S/blob/HEAD/docs/j.md#k) "
        "[l](S/blob/HEAD/m.md) ![n](S/raw/HEAD/docs/o.png)"
    )


@pytest.mark.full
def test_the_readmes_first_command_works_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """In a folder that is not the tree, with the package that has been unpacked."""
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    first = re.search(r"```sh\n(pip install .*)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert first is not None
    commands = [words.split() for words in first[1].split(" && ")]
    assert commands[0][:2] == ["pip", "install"] and all(words[0] == "fttool" for words in commands[1:])
    few = ["--set", "run.max_steps=3", "--set", "evaluation.samples=0", "--set", "data.train.0.limit=40"]
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    for words in commands[1:]:
        command = [sys.executable, "-m", "fttool", *words[1:], *(few if words[1] == "run" else [])]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    origin = [sys.executable, "-c", "import fttool_plugins; print(fttool_plugins.__file__)"]
    where = subprocess.run(origin, cwd=here, env=environment, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(site))
    assert (here / "runs" / "quickstart" / "model" / "model.safetensors").is_file()
