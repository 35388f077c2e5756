"""List the rows of a recipe or run that are dropped, bad, flagged or changed, with place, reason and beginning."""

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
  fttool rows my.toml --flagged              those that filters have found something in and kept as they are
  fttool rows my.toml --changed personal     those that filters have changed, as they are learned
  fttool rows my.toml --json > gone.jsonl    a JSON object a line

Of a recipe all rows are prepared as a run does it, without the model. Rows that are bad are listed too where the recipe
drops them (on_bad_row = "drop"); else they are refused.

next: fttool clean my.toml -o rows.jsonl writes the rows that are kept
"""

KINDS = {"dropped": "dropped or bad", "flagged": "flagged", "changed": "changed"}


def main(words: Sequence[str]) -> int:
    """Print them."""
    parser = verb_parser("rows", __doc__, EXAMPLES)
    parser.add_argument("recipe", type=Path, metavar="RECIPE|RUN", help="a recipe, or the directory of a run")
    add_overrides(parser, "override one key of the recipe")
    for kind, what in KINDS.items():
        parser.add_argument(
            f"--{kind}",
            metavar="WORD",
            nargs="?",
            const="",
            help=f"rows that are {what}: with WORD in reason or filter",
        )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(words)
    asked = {kind: word for kind in KINDS if (word := getattr(options, kind)) is not None} or {"dropped": ""}
    if len(asked) > 1:
        raise UsageError("one of --dropped, --flagged and --changed at a time", hint="leave the others out")
    ((kind, word),) = asked.items()
    rows = _rows(options, kind)
    chosen = [row for row in rows if word.lower() in row["reason"].lower() or word.lower() in row["by"].lower()]
    if rows and not chosen:
        known = ", ".join(sorted({row["by"] for row in rows}))
        raise UsageError(f"no row was {kind} for '{word}'", hint=f"rows were {kind} by: {known}")
    if options.json:
        for row in chosen:
            print(visible_json(json.dumps(row, ensure_ascii=False)))
    else:
        show(*_listed(chosen, KINDS[kind]))
    return ExitCode.OK


def _rows(options: argparse.Namespace, kind: str) -> list[Mapping[str, Any]]:
    """What `dropped.jsonl` or `flagged.jsonl` of a run has, or what a run of the recipe would write there."""
    rows = _of_run(options, kind) if options.recipe.is_dir() else _of_recipe(options, kind)
    return rows if kind == "dropped" else [row for row in rows if row["changed"] == (kind == "changed")]


def _of_recipe(options: argparse.Namespace, kind: str) -> list[Mapping[str, Any]]:
    rows = prepared_rows(load_recipe(options), quiet=options.json)
    return list(map(asdict, rows.gone if kind == "dropped" else rows.noticed))


def _of_run(options: argparse.Namespace, kind: str) -> list[Mapping[str, Any]]:
    if not (options.recipe / "recipe.resolved.toml").is_file():
        raise UsageError(f"'{options.recipe}' is not a run directory", hint="name one: runs/NAME, or a recipe")
    file = options.recipe / ("dropped.jsonl" if kind == "dropped" else "flagged.jsonl")
    if not file.is_file():  # there is no such row
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _listed(rows: Sequence[Mapping[str, Any]], what: str) -> Iterator[str]:
    """The rows below their reasons, the commonest first; then how many there are."""
    counts = Counter((row["by"], row["reason"]) for row in rows)
    for (by, reason), count in counts.most_common():
        yield f"{count:,}  {reason}  [{by}]"
        for row in rows:
            if (row["by"], row["reason"]) == (by, reason):
                yield f"    {row['row']}{', like ' + row['like'] if row['like'] else ''}"
                yield f"        {row['excerpt']}"
    yield f"{len(rows):,} {'row is' if len(rows) == 1 else 'rows are'} {what}"
