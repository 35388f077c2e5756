"""Write a plugin package to start from: the `.template` files of this folder with the plugin's name filled in.

What comes out is a package that installs, passes its own tests and is ready to be changed: one schedule, its hook, its
contract tests.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from fttool.contracts import FAMILIES
from fttool.errors import UsageError

FILES = {
    "pyproject.toml.template": "pyproject.toml",
    "README.md.template": "README.md",
    "plugin.py.template": "src/$module/__init__.py",
    "test_plugin.py.template": "tests/test_$short.py",
}
"""Template → its place in the package."""


def write(name: str, parent: Path) -> Path:
    """Make `parent/fttool-NAME`; a `UsageError` for a name that cannot be an id's prefix, or a folder that exists."""
    _refuse_name(name)
    folder = parent / f"fttool-{name}"
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"'{folder}' exists; it is not overwritten", hint="choose another name, or another --dir")
    short = name.replace("-", "_")
    words = {"name": name, "short": short, "module": f"fttool_{short}", "version": version("fttool")}
    aside = parent / f".fttool-{name}.partial"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        for template, place in FILES.items():
            text = files(__name__).joinpath(template).read_text(encoding="utf-8")
            file = aside / Template(place).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8")
        aside.rename(folder)
    except OSError as fault:
        raise UsageError(f"cannot write '{folder}': {fault.strerror}", hint="choose another --dir") from fault
    return folder


def _refuse_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise UsageError(
            f"'{name}' cannot be a plugin's name", hint="lower-case letters, digits and single '-', e.g. acme"
        )
    if re.match(r"fttool[-_]", name):
        raise UsageError(f"'{name}': leave '{name[:7]}' out, the package is called fttool-NAME anyway")
    taken = {*FAMILIES, "fttool"}
    if name in taken:
        raise UsageError(f"'{name}' is reserved by fttool", hint="choose another")
