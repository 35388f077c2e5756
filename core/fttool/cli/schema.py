"""Print the JSON Schema of a recipe over all strategies that are installed, for completion and checks in an editor."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fttool.errors import ExitCode
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool schema > recipe.schema.json

then begin a recipe with the line (Even Better TOML and taplo read it):
  #:schema ./recipe.schema.json

next: fttool validate my.toml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("--builtin", action="store_true", help="fttool's own strategies only")


def main(options: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(recipe_schema(builtin_only=options.builtin), indent=1, ensure_ascii=False))
    return ExitCode.OK


def recipe_schema(*, builtin_only: bool = False) -> dict[str, Any]:
    """The schema as JSON data; a broken plugin is left out with a word on stderr."""
    from fttool.errors import PluginError
    from fttool.plugins import Plugins
    from fttool.recipe.closed import recipe_type

    plugins = Plugins.discover()
    usable: list[str] = []
    for entry in plugins.entries:
        if entry.ours or builtin_only:
            continue
        try:
            plugins.strategies_of(entry.name)
            usable.append(entry.name)
        except PluginError as broken:
            show(f"left out: {broken.problems[0].message}", error=True)
    schema = recipe_type(lambda family: plugins.family(family, usable)).model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fttool recipe", **schema}
