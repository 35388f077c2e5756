"""Write the training rows that a recipe keeps into one file of JSON lines, as they came.

Rows that are dropped, for whatever reason, and bad ones are left out; those that the evaluation share sets aside stay.
"""

from __future__ import annotations

import argparse
import codecs
import json
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from fttool.api import ExitCode, RawRows, UsageError, open_rows, show
from fttool.verbs import Loaded, add_recipe, load_recipe, prepared_rows, raw_files, verb_parser

EXAMPLES = """\
examples:
  fttool clean my.toml -o rows.jsonl     what is left after formats, filters, marks and lengths
  fttool clean my.toml -o rows.jsonl --set 'filters=["exact-duplicates"]'

A row of JSON lines is copied byte for byte; one of a table, an array or a folder becomes a JSON object. What filters
change in a row (personal-data with action = "mask") is changed when the rows are read, not in what is written here.

next: fttool rows my.toml lists what was left out
"""


def main(words: Sequence[str]) -> int:
    """Write the file."""
    parser = verb_parser("clean", __doc__, EXAMPLES)
    add_recipe(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="a file that is not there yet")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    options = parser.parse_args(words)
    _refuse_output(options.output)
    loaded = load_recipe(options)
    if any(not table.paths for table in loaded.recipe.data.train):
        raise UsageError("rows of the hub are not written here", hint="give the dataset a path")
    rows = prepared_rows(loaded, quiet=options.quiet)
    kept = {_origin(origin) for part in (rows.train, rows.eval) for origin in part.origins}
    written = _write(options, loaded, kept)
    show(f"wrote {options.output}: {written:,} rows; {len(rows.gone):,} were dropped or bad")
    if rows.changed:
        changes = ", ".join(f"{count:,} {reason}" for reason, count in rows.changed.items())
        show(f"note: filters change rows when they are read, and not in this file: {changes}", error=True)
    return ExitCode.OK


def _refuse_output(output: Path) -> None:
    if output.exists():
        raise UsageError(f"'{output}' exists; it is never overwritten", hint="choose another file: -o FILE")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"the folder '{output.parent}' does not exist", hint="make it, or choose another: -o FILE")


def _origin(origin: str) -> str:
    """`file:line` of the raw row that a row was made of: `file:line#2` is a part of one."""
    place, mark, part = origin.rpartition("#")
    return _origin(place) if mark and part.isdigit() else origin


def _write(options: argparse.Namespace, loaded: Loaded, kept: Set[str]) -> int:
    """Write the kept rows; returns how many."""
    written = 0
    with options.output.open("xb") as file:
        for path, raw in raw_files(loaded):
            for line in _lines(path, kept) if _is_lines(path) else _objects(raw, kept):
                file.write(line)
                written += 1
    return written


def _is_lines(path: Path) -> bool:
    """Whether a file has a JSON object a line."""
    if path.is_dir():
        return False
    with open_rows(path) as file:
        return file.stream.peek(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _lines(path: Path, kept: Set[str]) -> Iterator[bytes]:
    """The kept lines of a file, byte for byte, each with a line break."""
    with open_rows(path) as file:
        for number, line in enumerate(file.stream, 1):
            if f"{path}:{number}" in kept:
                yield line if line.endswith(b"\n") else line + b"\n"


def _objects(raw: RawRows, kept: Set[str]) -> Iterator[bytes]:
    """The kept rows of any other file, a JSON object a line."""
    for origin, row in raw:
        if origin in kept:
            yield f"{json.dumps(row, ensure_ascii=False)}\n".encode()
