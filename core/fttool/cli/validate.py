"""Check a recipe against everything that is installed, and the first rows of its files; no model is loaded."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import ExitCode, FttoolError, counted
from fttool.recipe.loaded import Loaded
from fttool.textfile import obstacle
from fttool.visible import show

if TYPE_CHECKING:
    from fttool.rows.datasets import Reading

FIRST = 1_000
"""Rows of each dataset that are looked at."""

EXAMPLES = """\
examples:
  fttool validate my.toml
  fttool validate my.toml --set optimizer.lr=1e-4
  fttool validate my.toml --json

Of each file or folder of rows the first 1,000 rows are read: which columns and keys of turns are read, and which are
not, is listed with counts. Rows on the hub, and files that are not there yet, are passed over. No tokenizer is loaded,
so what depends on it is not looked at: the chat template, masks, control tokens, thoughts, lengths. `fttool run
--dry-run` looks at all of that, in all rows.

exit code 3: the recipe is wrong; 4: rows are; 6: a plugin that it needs is missing or broken

next: fttool preview my.toml, then fttool run my.toml
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
        show(f"{Path(loaded.path)}: valid", *found)
    return ExitCode.OK


def rows_found(loaded: Loaded) -> list[str]:
    """What the first rows of each dataset have that is read or not, a line each; raises `DataError` for bad ones, and
    where none is good.
    """
    from fttool.recipe.faults import explained
    from fttool.rows.datasets import unread_general
    from fttool.rows.first_look import first_rows, refuse_nothing_read

    lines: list[str] = []
    looked_at: list[Reading] = []
    with explained(loaded):
        for reading, passed_over in first_rows(loaded, FIRST):
            name = f"{reading.key[1]} {reading.table.dataset}"
            lines += [f"  {name}: not looked at: {passed_over}"] if passed_over else _lines(name, reading)
            looked_at += [] if passed_over else [reading]
        refuse_nothing_read(looked_at)
        lines += [f"  {line}" for line in unread_general(loaded.recipe)]
    lines += [f"  {line}" for line in _files_and_metrics(loaded)]
    unseen = "the chat template, masks, control tokens, thoughts and lengths of rows"
    return [*lines, f"  not looked at: {unseen}; that does: fttool run {Path(loaded.path)} --dry-run"]


def _files_and_metrics(loaded: Loaded) -> Iterator[str]:
    """A template's file that is not there, and metrics that nothing measures."""
    recipe, given = loaded.recipe, loaded.recipe.model.chat_template
    if given is not None and (Path(given).suffix or "/" in given):
        wrong = obstacle(loaded.folder / Path(given).expanduser())
        if wrong is not None:
            yield f"model.chat_template: {wrong.message}: {wrong.where}; {wrong.hint}"
    if not recipe.has_eval and not recipe.data.retention and "metrics" in recipe.evaluation.model_fields_set:
        names = ", ".join(metric.id() for metric in recipe.evaluation.metrics)
        yield f"evaluation.metrics ({names}) are not measured: there are no evaluation rows; set data.eval_share = 0.05"


def _lines(name: str, reading: Reading) -> list[str]:
    """What there is to say of one dataset."""
    from fttool.rows.checks.columns import described

    good, verb = len(reading.examples), "is" if len(reading.examples) == 1 else "are"
    more = "" if reading.whole else ", the first ones"
    found = [f"{name}: {good:,} of {counted(reading.bad.rows, 'row')} {verb} good{more}"]
    found += [f"{name}: {counted(count, 'row')} {reason}" for reason, count in reading.left_out.items()]
    found += [*described(name, reading.columns.as_data()), *reading.notices(unread=False), *reading.classes.notices()]
    return [f"  {line}" for line in found]
