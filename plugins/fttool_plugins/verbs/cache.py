"""List or clear the prepared rows that are kept for the next run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fttool.api import ExitCode, UsageError, show
from fttool.verbs import kept_rows, kept_rows_folder, remove_kept_rows, verb_parser

EXAMPLES = """\
examples:
  fttool cache                      what is kept, those first that were used last
  fttool cache --clear              remove all of it; the next run prepares its rows again
  fttool cache --folder prepared    of a folder that recipes name: [data] cache = "prepared"

next: fttool prepare my.toml
"""


def main(words: Sequence[str]) -> int:
    """List, or clear."""
    parser = verb_parser("cache", __doc__, EXAMPLES)
    parser.add_argument("--folder", type=Path, help="where rows are kept; default: in the user's cache")
    parser.add_argument("--clear", action="store_true", help="remove all prepared rows that are kept there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    folder: Path | None = options.folder or kept_rows_folder()
    if folder is None:
        raise UsageError("there is no home directory, so nothing is kept", hint="name a folder: --folder prepared")
    if options.folder and not folder.is_dir():
        raise UsageError(f"there is no folder '{folder}'", hint="without --folder, that in the user's cache is taken")
    found = kept_rows(folder)
    total = sum(entry.bytes for entry in found)
    for entry in found if options.clear else ():
        remove_kept_rows(entry)
    if options.json:
        listed = [
            {"path": str(entry.path), "bytes": entry.bytes, "used": entry.used, "sources": list(entry.sources)}
            for entry in found
        ]
        show(json.dumps({"folder": str(folder), "bytes": total, "cleared": options.clear, "rows": listed}))
        return ExitCode.OK
    for entry in found:
        when = datetime.fromtimestamp(entry.used).astimezone().strftime("%Y-%m-%d %H:%M")
        show(f"{entry.bytes / 2**20:>8,.1f} MiB  {when}  {', '.join(entry.sources)}")
    show(f"{'removed' if options.clear else 'kept'}: {total / 2**20:,.1f} MiB in {folder}")
    return ExitCode.OK
