"""Find the rows behind a spike of the loss or the gradient: those of an update, by their share of both.

The order of rows is a pure function of the seed, so the rows of any update of any run are known. They are scored with
the weights of the newest checkpoint before that update, or those that the run started from. Without --update it looks
at the updates whose loss or gradient norm stands out most.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fttool.api import ExitCode, UsageError, show, visible_json
from fttool.verbs import load_run, revisit, verb_parser
from fttool_plugins.verbs.counts import positive

EXAMPLES = """\
examples:
  fttool why runs/my                         the rows behind its worst spikes
  fttool why runs/my --update 2              the rows of that update
  fttool why runs/my --spikes 1 --rows 3
  fttool why runs/my --json > why.json       every row of these updates

Rows are shown as they are, personal data too. With run.log_every = 1 a spike is one update, and with checkpoints.every
the weights are those of that time.

next: fttool clean my.toml -o rows.jsonl, or correct the rows; then fttool run my.toml
"""


def main(words: Sequence[str]) -> int:
    """Find the updates, score their rows, and show the worst."""
    options = _parser().parse_args(words)

    from fttool_plugins.verbs.report.reading import read
    from fttool_plugins.verbs.why.asking import chosen

    (told,) = read([options.run])
    if told.state == "running":
        hint = "ask again once it has ended; `fttool report` shows how far it is"
        raise UsageError(f"the run '{options.run}' is still running", hint=hint)
    run, asked = load_run(options.run), chosen(told, options.update, options.spikes)
    show(*(f"{options.run}: {problem}" for problem in told.problems if "metrics" in problem), error=True)
    with tempfile.TemporaryDirectory(prefix="fttool-why-") as folder:
        past = revisit(run, Path(folder), quiet=options.quiet or options.json)

        from fttool_plugins.verbs.why.asking import answer
        from fttool_plugins.verbs.why.screen import as_data, screen

        given = answer(past, asked, quiet=options.quiet or options.json)
    if options.json:
        print(visible_json(json.dumps(as_data(options.run, given), indent=1, ensure_ascii=False)))
    else:
        show(*screen(given, options.rows))
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("why", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="the directory of a run that is over")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--update", type=positive, metavar="N", help="this one, from 1; default: the worst spikes")
    which.add_argument("--spikes", type=positive, default=10, metavar="N", help="how many of each; default: 10")
    parser.add_argument("--rows", type=positive, default=5, metavar="N", help="how many rows are shown; default: 5")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="one JSON object with all rows of these updates on stdout")
    shown.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    return parser
