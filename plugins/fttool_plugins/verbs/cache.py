"""List or clear what is kept for the next run: prepared rows, and files that came over the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from fttool.api import ExitCode, UsageError, show
from fttool.verbs import fetched_files, kept_rows, kept_rows_folder, remove_fetched, remove_kept_rows, verb_parser

EXAMPLES = """\
examples:
  fttool cache                      what is kept, those first that were used last
  fttool cache --clear              remove all of it; the next run fetches its files and prepares its rows again
  fttool cache --folder prepared    of a folder that recipes name: [data] cache = "prepared"

next: fttool prepare my.toml
"""


def main(words: Sequence[str]) -> int:
    """List, or clear."""
    parser = verb_parser("cache", __doc__, EXAMPLES)
    parser.add_argument("--folder", type=Path, help="where rows are kept; default: in the user's cache")
    parser.add_argument("--clear", action="store_true", help="remove all that is kept there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    folder: Path | None = options.folder or kept_rows_folder()
    if folder is None:
        raise UsageError("there is no home directory, so nothing is kept", hint="name a folder: --folder prepared")
    if options.folder and not folder.is_dir():
        raise UsageError(f"there is no folder '{folder}'", hint="without --folder, that in the user's cache is taken")
    found = kept_rows(folder)
    files = [] if options.folder else fetched_files()
    total = sum(entry.bytes for entry in [*found, *files])
    if options.clear:
        for entry in found:
            remove_kept_rows(entry)
        for file in files:
            remove_fetched(file)
    if options.json:
        listed = [
            {"path": str(entry.path), "bytes": entry.bytes, "used": entry.used, "sources": list(entry.sources)}
            for entry in found
        ]
        fetched = [{"address": file.address, "bytes": file.bytes, "used": file.used} for file in files]
        said = {"folder": str(folder), "bytes": total, "cleared": options.clear, "rows": listed, "fetched": fetched}
        show(json.dumps(said))
        return ExitCode.OK
    for entry in found:
        show(_line(entry.bytes, entry.used, ", ".join(entry.sources)))
    for file in files:
        show(_line(file.bytes, file.used, f"{file.address} (as it was fetched)"))
    beside = f" and {folder.parent / 'fetched'}" if files else ""
    show(f"{'removed' if options.clear else 'kept'}: {total / 2**20:,.1f} MiB in {folder}{beside}")
    return ExitCode.OK


def _line(size: int, used: float, what: str) -> str:
    """Bytes and seconds since 1970 in front of what they are of."""
    when = datetime.fromtimestamp(used).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{size / 2**20:>8,.1f} MiB  {when}  {what}"
