"""List the recipes that come with fttool, or copy one into a folder, with its rows.

What is copied is yours to change. Nothing that is there already is overwritten.
"""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from fttool.api import ExitCode, UsageError, did_you_mean, show
from fttool.verbs import verb_parser

EXAMPLES = """\
examples:
  fttool recipes                         what there is, a line each
  fttool recipes copy quickstart         quickstart.toml and its rows, into this folder
  fttool recipes copy wsd --dir tries    into another one

next: fttool run quickstart.toml
"""

MADE_BY = ("*.py", "*.md")
"""What is copied of a folder of scripts; what they have made stays behind."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A file that belongs to a recipe."""

    path: Path
    """Where it comes to lie, relative to the folder that receives the recipe."""
    content: bytes


def main(words: Sequence[str]) -> int:
    """Print the list, or copy."""
    parser = verb_parser("recipes", __doc__, EXAMPLES)
    inner = parser.add_subparsers(dest="verb", metavar="copy", help="fttool recipes copy --help explains it")
    copy = inner.add_parser("copy", help="copy a recipe and its rows", description="Copy a recipe and its rows.")
    copy.add_argument("name", metavar="NAME", help="quickstart, remember … as `fttool recipes` lists them")
    copy.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="folder to copy it to (default: here)")
    copy.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    options = parser.parse_args(words)
    if options.verb == "copy":
        show(*copied(options.name, options.dir))
    else:
        show(*listed(), "", "next: fttool recipes copy quickstart")
    return ExitCode.OK


def folder() -> Path:
    """Where the recipes lie: inside the installed package, or in the tree that it is installed from."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def names() -> list[str]:
    """Of all recipes; the quickstart comes first."""
    return sorted((path.stem for path in folder().glob("*.toml")), key=lambda name: (name != "quickstart", name))


def listed() -> Iterator[str]:
    """A line for each recipe: its name, and the first sentence of what it says of itself."""
    known = names()
    width, room = max(map(len, known)), shutil.get_terminal_size().columns
    for name in known:
        line = f"{name:<{width}}  {about((folder() / f'{name}.toml').read_text(encoding='utf-8'))}"
        yield from textwrap.wrap(line, max(60, room), subsequent_indent=" " * (width + 2), break_on_hyphens=False)


def about(text: str) -> str:
    """The first sentence of a recipe's opening comment."""
    comment = " ".join(line.lstrip("# ") for line in _opening(text) if not line.startswith("#:"))
    return re.split(r"[.:;](?: |$)", comment, maxsplit=1)[0]


def _opening(text: str) -> list[str]:
    """The lines of the comment that a recipe begins with."""
    lines = text.splitlines()
    return lines[: next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))]


def copied(name: str, target: Path) -> list[str]:
    """Copy a recipe into the folder `target`; returns what was done, in lines.

    Raises `UsageError`, and writes nothing, where there is no such recipe, or a file that differs stands in the way.
    """
    name = name.removesuffix(".toml")
    if name not in names():
        near = did_you_mean(name, names())
        hint = f"{near} " if near.endswith("?") else ""
        raise UsageError(f"no recipe is called '{name}'", hint=f"{hint}`fttool recipes` lists them")
    if target.exists() and not target.is_dir():
        raise UsageError(f"'{target}' is not a folder", hint="name one: --dir DIR")
    text = (folder() / f"{name}.toml").read_text(encoding="utf-8")
    wanted = list(pieces(name, text))
    old = [piece for piece in wanted if (target / piece.path).exists()]
    others = [piece for piece in old if not _is(target / piece.path, piece.content)]
    if others:
        there = ", ".join(str(target / piece.path) for piece in others)
        raise UsageError(f"in the way, and not overwritten: {there}", hint="name another folder: --dir DIR")
    for piece in wanted:
        if piece not in old:
            path = target / piece.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(piece.content)
    said = [f"{'there already' if piece in old else 'wrote'}  {target / piece.path}" for piece in wanted]
    return [*said, *_what_next(name, text, target)]


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def pieces(name: str, text: str) -> Iterator[Piece]:
    """The recipe `name`, whose text is `text`, and all files that it needs and that come with fttool."""
    yield Piece(Path(f"{name}.toml"), at_home(text).encode())
    for path in sorted(_needed(text)):
        yield Piece(path, (folder() / path).read_bytes())


def at_home(text: str) -> str:
    """A recipe's text with the commands of its comments as they are where it has been copied to."""
    lines = text.splitlines(keepends=True)
    placed = [line.replace(" recipes/", " ") if line.startswith("#") else line for line in lines]
    return "".join(placed).replace("pip install '.[", "pip install 'fttool[")


def _needed(text: str) -> set[Path]:
    """Rows, configurations and the schema that a recipe names, with their licences; scripts that its comment names."""
    home = folder()
    schema = [line.removeprefix("#:schema ") for line in _opening(text) if line.startswith("#:schema ")]
    paths = {Path(value) for value in [*schema, *_texts(tomli.loads(text))] if (home / value).is_file()}
    scripts = {Path(script).parent for script in re.findall(r"recipes/(\S+\.py)\b", "\n".join(_opening(text)))}
    beside = {place for place in {path.parent for path in paths} if place != Path()}
    licences = {path for place in beside for path in (home / place).glob("LICENSE*")}
    made_by = {path for place in scripts for kind in MADE_BY for path in (home / place).glob(kind)}
    return paths | {path.relative_to(home) for path in licences | made_by}


def _texts(value: Any) -> Iterator[str]:
    """All texts in a recipe that may be the path of a file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _what_next(name: str, text: str, target: Path) -> list[str]:
    """What to type: `run`, where the rows are there, else `validate`."""
    datasets = [dataset for part in tomli.loads(text)["data"].values() if isinstance(part, list) for dataset in part]
    lacking = [dataset["path"] for dataset in datasets if not (folder() / dataset["path"]).exists()]
    path = target / f"{name}.toml"
    if lacking:
        return ["", f"not with it: {', '.join(lacking)}", f"next: read how to get it in {path}"]
    return ["", f"next: fttool run {path}"]
