"""List the rows of a recipe or run that are dropped or bad, each with its place, the reason and how it begins."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, UsageError, show, visible_json
from fttool.verbs import add_overrides, load_recipe, prepared_rows, verb_parser

EXAMPLES = """\
examples:
  fttool rows my.toml                        every row that is dropped or bad, by reason
  fttool rows my.toml --dropped duplicates   those of filters, and with reasons, that have a word in them
  fttool rows runs/my --dropped bad          those of a run, from its dropped.jsonl
  fttool rows my.toml --json > gone.jsonl    a JSON object a line

Of a recipe all rows are prepared as a run does it, without the model. Rows that are bad are listed too where the recipe
drops them (on_bad_row = "drop"); else they are refused.

next: fttool clean my.toml -o rows.jsonl writes the rows that are kept
"""


def main(words: Sequence[str]) -> int:
    """Print them."""
    parser = verb_parser("rows", __doc__, EXAMPLES)
    parser.add_argument("recipe", type=Path, metavar="RECIPE|RUN", help="a recipe, or the directory of a run")
    add_overrides(parser, "override one key of the recipe")
    parser.add_argument(
        "--dropped", metavar="WORD", default="", help="in the reason, or in the id of the filter (default: any)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(words)
    rows = _rows(options)
    word = options.dropped.lower()
    chosen = [row for row in rows if word in row["reason"].lower() or word in row["by"].lower()]
    if rows and not chosen:
        known = ", ".join(sorted({row["by"] for row in rows}))
        raise UsageError(f"no row was dropped for '{options.dropped}'", hint=f"rows were dropped by: {known}")
    if options.json:
        for row in chosen:
            print(visible_json(json.dumps(row, ensure_ascii=False)))
    else:
        show(*_listed(chosen))
    return ExitCode.OK


def _rows(options: argparse.Namespace) -> list[Mapping[str, Any]]:
    """What `dropped.jsonl` of a run has, or what a run of the recipe would write there."""
    if not options.recipe.is_dir():
        return [asdict(gone) for gone in prepared_rows(load_recipe(options), quiet=options.json).gone]
    if not (options.recipe / "recipe.resolved.toml").is_file():
        raise UsageError(f"'{options.recipe}' is not a run directory", hint="name one: runs/NAME, or a recipe")
    file = options.recipe / "dropped.jsonl"
    if not file.is_file():  # no row of the run was dropped
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _listed(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The rows below their reasons, the commonest first; then how many there are."""
    counts = Counter((row["by"], row["reason"]) for row in rows)
    for (by, reason), count in counts.most_common():
        yield f"{count:,}  {reason}  [{by}]"
        for row in rows:
            if (row["by"], row["reason"]) == (by, reason):
                yield f"    {row['row']}{', like ' + row['like'] if row['like'] else ''}"
                yield f"        {row['excerpt']}"
    yield f"{len(rows):,} {'row is' if len(rows) == 1 else 'rows are'} dropped or bad"
