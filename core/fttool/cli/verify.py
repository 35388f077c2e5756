"""Is everything in a run directory as the run has written it? Model and checkpoints by their hashes, and the logs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from fttool import disk
from fttool.errors import ExitCode, UsageError, gist
from fttool.plain import is_table
from fttool.rundir import checkpoints, lines
from fttool.rundir.record import LINES, Record
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool verify runs/my                              the model, the checkpoints, the lock, the recipe and the logs
  fttool verify runs/*

exit code 9: something is missing or damaged

next: fttool run my.toml --resume makes a damaged model again, from the newest checkpoint
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run directory")


def main(options: argparse.Namespace) -> int:
    """Print what is wrong with each of them, or that it is intact."""
    code = ExitCode.OK
    for run in options.runs:
        if not (run / "lock.json").exists() and not (run / "recipe.resolved.toml").exists():
            raise UsageError(f"'{run}' is not a run directory", hint="name one: runs/NAME")
        damages = list(damage(run))
        for sentence in damages:
            show(f"{run}: {sentence}", error=True)
        show(f"{run}: {f'{len(damages)} damaged' if damages else 'intact'}")
        code = ExitCode.DISK if damages else code
    return code


def damage(run: Path) -> Iterator[str]:
    """A sentence for each thing that is not as it was written."""
    record = Record(run)
    try:
        record.resolved_recipe()
    except (OSError, ValueError) as fault:
        yield f"recipe.resolved.toml: {gist(fault)}"
    try:
        record.lock()
    except (OSError, ValueError) as fault:
        yield f"lock.json: {gist(fault)}"
    yield from _model(run)
    for step in checkpoints.steps(record.checkpoints):
        checkpoint = checkpoints.intact(record.checkpoints, step)
        if isinstance(checkpoint, str):
            yield checkpoint
    for name, needed in LINES.items():
        bad = [str(line.number) for line in lines.read(run / name, needed) if line.values is None]
        if bad:
            yield f"{name} has damaged lines: {', '.join(bad[:10])}"


def _model(run: Path) -> Iterator[str]:
    """The saved model against the hashes in `summary.json`, which only a finished run has."""
    file = run / "summary.json"
    if not file.exists():
        return
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        files = summary.get("files", {}) if is_table(summary) else None
    except (OSError, ValueError) as fault:
        yield f"summary.json: {gist(fault)}"
        return
    if not is_table(files):
        yield "summary.json is not as it was written"
        return
    wrong = disk.damaged(run, files)
    if wrong:
        yield f"missing or damaged: {', '.join(wrong)}"
