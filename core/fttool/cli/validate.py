"""Check a recipe against everything that is installed, without loading a model or any row."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import ExitCode, FttoolError
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool validate my.toml
  fttool validate my.toml --set optimizer.lr=1e-4
  fttool validate my.toml --json

exit code 3: the recipe is wrong; 6: a plugin that it needs is missing or broken
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="problems as a JSON list on stdout")


def main(options: argparse.Namespace) -> int:
    """Print what is wrong, or that nothing is."""
    try:
        loaded = load_recipe(options)
    except FttoolError as error:
        if not options.json:
            raise
        print(json.dumps([{"message": p.message, "where": p.where, "hint": p.hint} for p in error.problems], indent=2))
        return error.exit_code
    if options.json:
        print("[]")
    else:
        show(f"{Path(loaded.path)}: valid")
    return ExitCode.OK
