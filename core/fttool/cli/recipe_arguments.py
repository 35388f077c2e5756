"""The arguments that every verb over a recipe takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.visible import show


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """`RECIPE` and `--set`."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="the recipe, a TOML file")
    add_overrides(parser, "override one key, e.g. --set run.max_steps=50 (a TOML value, else a plain string)")


def add_overrides(parser: argparse.ArgumentParser, what: str) -> None:
    """`--set`, and in words what it is for."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=what,
    )


def load_recipe(options: argparse.Namespace) -> Loaded:
    """The valid recipe with its overrides; what they dropped is said on stderr."""
    loaded = load(options.recipe, options.overrides)
    for sentence in loaded.dropped:
        show(sentence, error=True)
    return loaded
