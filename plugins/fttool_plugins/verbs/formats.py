"""List the formats of rows that are installed, each with a row as it reads it; or those that read a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, Format, FormatLook, show, visible_json
from fttool.verbs import Listed, formats_tried, installed_formats, verb_parser

EXAMPLES = """\
examples:
  fttool formats                         every format, with a line and a row that it reads
  fttool formats rows.jsonl              which of them read this file, and why the others do not
  fttool formats --json                  the same as one JSON list

A file's first 1,000 rows are looked at, and formats are tried without any option. A format that would leave a column
unread which means something to others does not read the row.

next: fttool plugins show format.messages explains one, with its options
"""


def main(words: Sequence[str]) -> int:
    """Print the list."""
    parser = verb_parser("formats", __doc__, EXAMPLES)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="rows that the formats are tried on")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    options = parser.parse_args(words)
    if options.file is None:
        formats = installed_formats()
        lines = _list(formats)
        data = [
            {"id": row.id, "about": row.about, "example": dict(kind.example), "distribution": row.distribution}
            for row, kind in formats
        ]
    else:
        tried = formats_tried(options.file)
        lines, data = _tried(options.file, tried), _tried_data(tried)
    if options.json:
        print(visible_json(json.dumps(data, ensure_ascii=False, indent=1)))
    else:
        show(*lines)
    return ExitCode.OK


def _list(formats: Sequence[tuple[Listed, type[Format]]]) -> Iterator[str]:
    """Each format with its example."""
    for row, kind in formats:
        owner = "" if row.distribution == "fttool" else f" ({row.distribution} {row.version})"
        yield f"{row.id}{owner}"
        yield f"  {(row.about or '').partition(': `{')[0]}"  # its example stands on the next line
        yield f"  {_row(kind.example) if kind.example else 'no example is given'}"
    yield ""
    yield "next: fttool formats rows.jsonl says which of them read a file"


def _row(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _tried(file: Path, look: FormatLook) -> Iterator[str]:
    """What each format makes of the rows; those that read most come first."""
    count = len(look.origins)
    trials = sorted(look.trials, key=lambda trial: (len(trial.refused), sum(trial.unread.values())))
    width = max((len(trial.format.id()) for trial in trials), default=0)
    for trial in trials:
        line = f"{trial.format.id():<{width}}  reads {count - len(trial.refused):,} of {count:,} rows"
        if trial.unread:
            line += ", without " + ", ".join(f"'{name}'" for name in trial.unread)
        if trial.refused:
            index = min(trial.refused)
            line += f"; {look.origins[index].removeprefix(str(file.parent) + '/')}: {trial.refused[index]}"
        yield line
    yield ""
    yield 'next: fttool init --data FILE writes a recipe for it; format = "auto" chooses as this list does'


def _tried_data(look: FormatLook) -> list[dict[str, Any]]:
    return [
        {
            "id": trial.format.id(),
            "rows": len(look.origins),
            "read": len(look.origins) - len(trial.refused),
            "unread": dict(trial.unread),
            "refused": [{"row": look.origins[index], "reason": why} for index, why in trial.refused.items()],
        }
        for trial in look.trials
    ]
