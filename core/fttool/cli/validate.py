"""Check a recipe against everything that is installed, and the first rows of its files; no model is loaded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import ExitCode, FttoolError
from fttool.recipe.reading import Loaded
from fttool.visible import show

FIRST = 1_000
"""Rows of each dataset that are looked at."""

EXAMPLES = """\
examples:
  fttool validate my.toml
  fttool validate my.toml --set optimizer.lr=1e-4
  fttool validate my.toml --json

Of each file or folder of rows the first 1,000 rows are read: which columns and keys of turns are read, and which are
not, is listed with counts. Rows on the hub, and files that are not there yet, are passed over; `fttool run --dry-run`
reads all.

exit code 3: the recipe is wrong; 4: rows are; 6: a plugin that it needs is missing or broken
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="problems as a JSON list on stdout")
    parser.add_argument("--no-rows", action="store_true", help="the recipe alone: read no rows")


def main(options: argparse.Namespace) -> int:
    """Print what is wrong, or that nothing is."""
    try:
        loaded = load_recipe(options)
        found = [] if options.no_rows else rows_found(loaded)
    except FttoolError as error:
        if not options.json:
            raise
        print(json.dumps([{"message": p.message, "where": p.where, "hint": p.hint} for p in error.problems], indent=2))
        return error.exit_code
    if options.json:
        print("[]")
    else:
        show("\n".join([f"{Path(loaded.path)}: valid", *found]))
    return ExitCode.OK


def rows_found(loaded: Loaded) -> list[str]:
    """What the first rows of each dataset have that is read or not, a line each; raises `DataError` for bad ones."""
    from fttool.faults import explained
    from fttool.rows.columns import described
    from fttool.rows.datasets import first_rows

    lines: list[str] = []
    with explained(loaded):
        for reading, passed_over in first_rows(loaded, FIRST):
            name = f"{reading.key[1]} {reading.table.dataset}"
            if passed_over:
                lines.append(f"  {name}: not looked at: {passed_over}")
                continue
            more = "" if reading.whole else ", the first ones"
            lines.append(f"  {name}: {len(reading.examples):,} of {reading.bad.rows:,} rows are good{more}")
            lines += [f"  {line}" for line in described(name, reading.columns.as_data())]
            notices = [*reading.notices(unread=False), *reading.classes.notices()]
            lines += [f"  {notice}" for notice in notices]
    return lines
