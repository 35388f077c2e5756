"""Show rows token by token: what the model reads, and in colour what it learns."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import ExitCode, UsageError, counted
from fttool.visible import show, visible

if TYPE_CHECKING:
    from fttool.rows.tokens import TokenRows

EXAMPLES = """\
examples:
  fttool preview my.toml                 the first three rows
  fttool preview my.toml --rows 10
  fttool preview my.toml --table retention       of each dataset of [[data.retention]]
  fttool preview my.toml --json          input_ids, labels and text, one JSON object per line

Learned tokens are green and underlined; without colour they are in [brackets]. What is to be known of the datasets
(columns that are not read, rows that were left out …) and of the rows shown follows as notes on stderr.

next: fttool run my.toml --dry-run
"""

TABLES = ("train", "general", "retention")
LEARNED, PLAIN = "\x1b[32;4m", "\x1b[0m"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    add_recipe(parser)
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows (default 3)")
    parser.add_argument("--table", choices=TABLES, default=TABLES[0], help="which rows of [data] (default train)")
    parser.add_argument("--json", action="store_true", help="input_ids, labels, text per row")


def main(options: argparse.Namespace) -> int:
    """Print the rows; the model's weights are not loaded."""
    if options.rows < 1:
        raise UsageError("--rows must be at least 1")
    loaded = load_recipe(options)

    from fttool.machine import quiet_libraries
    from fttool.recipe.faults import explained
    from fttool.rows.checks.agreement import refuse_difference
    from fttool.rows.format_detection import settled
    from fttool.runs.stages.rows import agree, load_rows

    with explained(loaded):
        loaded = settled(loaded)
        quiet_libraries(network=loaded.needs_network)
        _, tokenizer, rows = load_rows(loaded, first=options.rows)
        agreement = agree(loaded, tokenizer, rows)
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    datasets = {"train": [rows.train], "general": rows.general.values(), "retention": rows.retention.values()}
    chosen = [dataset for dataset in datasets[options.table] if len(dataset)]
    if not chosen:
        raise UsageError(f"the recipe has no [[data.{options.table}]]", hint="add it, or leave --table out")
    for row, origin in (pair for dataset in chosen for pair in zip(dataset, dataset.origins, strict=True)):
        if options.json:
            text = tokenizer.decode(row.input_ids)
            shown = {"row": origin, "input_ids": row.input_ids, "labels": row.labels, "text": text}
            print(json.dumps(shown if row.classes is None else {**shown, "classes": row.classes}))
            continue
        learned = f"{sum(label != -100 for label in row.labels)} learned"
        if row.classes is not None:
            learned = ", ".join(row.classes) or "no class"
        show(f"{origin}: {len(row.input_ids)} tokens, {learned}")
        print("".join(_shown(tokenizer, row.input_ids, row.labels, coloured)).rstrip("\n") + "\n")
    for note in [*rows.notices, *_remarks(chosen)]:
        show(f"note: {note}", error=True)
    with explained(loaded):  # the rows come first: they show what is refused
        refuse_difference(agreement, loaded.recipe.model.template_difference)
    for finding in agreement.findings():
        show(f"note: {finding.message}", f"    {finding.hint}", error=True)
    return ExitCode.OK


def _remarks(chosen: Sequence[TokenRows]) -> list[str]:
    """What is to be known of the rows that were shown."""
    counts = sum((dataset.remarks for dataset in chosen), Counter[str]())
    return [f"shown here: {counted(count, 'row')} {remark}" for remark, count in counts.items()]


def _shown(tokenizer: Any, input_ids: list[int], labels: list[int], coloured: bool) -> Iterator[str]:
    """The row's text in stretches that are learned or not; a stretch is decoded at once, so no letter is split."""
    start = 0
    for end in range(1, len(input_ids) + 1):
        learned = labels[start] != -100
        if end < len(input_ids) and (labels[end] != -100) == learned:
            continue
        text = visible(tokenizer.decode(input_ids[start:end]))
        if learned:
            text = f"{LEARNED}{text}{PLAIN}" if coloured else f"[{text}]"
        yield text
        start = end
