"""Write what happened in a run as one page for a browser: how it ended, its curves, answers, rows and recipe.

Of several runs: what differs between them, and their curves over one another. The page is one file, without scripts and
without a network; it is written of runs that still run or have failed, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fttool.api import ExitCode, show, visible_json
from fttool.verbs import verb_parser

EXAMPLES = """\
examples:
  fttool report runs/my                      writes runs/my/report.html
  fttool report runs/a runs/b                side by side, in report.html
  fttool report runs/my -o my.html
  fttool report runs/my --json > my.json     what the page has, as one JSON object

Prompts, answers and dropped rows are shown as they are, personal data too. With observe = ["report"] under [plugins],
a run writes its page by itself.

next: open the page in a browser; fttool compare runs/a runs/b
"""


def main(words: Sequence[str]) -> int:
    """Write the page, and say how each run ended, where the page is, and what to type next."""
    parser = verb_parser("report", __doc__, EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories")
    where = "default: report.html in the run directory; of several runs, here"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help=where)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, and a page only with -o")
    options = parser.parse_args(words)

    from fttool_plugins.verbs.report.ending import next_step, sentence
    from fttool_plugins.verbs.report.reading import read
    from fttool_plugins.verbs.report.writing import as_data, page_of, refuse_foreign, write

    runs, file = read(options.runs), options.output or page_of(options.runs)
    if options.output is not None or not options.json:
        refuse_foreign(file)
        write(file, runs)
    if options.json:
        page = file if options.output is not None else None
        print(visible_json(json.dumps(as_data(runs, page), indent=1, ensure_ascii=False)))
        return ExitCode.OK
    for told in runs:
        show(*(f"{told.past.path}: {problem}" for problem in told.problems), error=True)
        show(f"{told.past.label}: {sentence(told)}")
    show("", f"page  {file}", f"next  {next_step(runs[0]) if len(runs) == 1 else 'open it in a browser'}")
    return ExitCode.OK
