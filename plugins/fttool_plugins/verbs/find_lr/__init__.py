"""Find the learning rates at which the loss falls, and rises: a range test.

A few updates of the recipe under a rate that climbs from far too low to far too high; the weights are thrown away with
them, and nothing of the recipe's run is touched. Smith 2017, arXiv 1506.01186.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fttool.api import ExitCode, UsageError, show
from fttool.verbs import add_recipe, load_recipe, verb_parser
from fttool_plugins.verbs.counts import above_0, positive

EXAMPLES = """\
examples:
  fttool find-lr my.toml                            from a hundredth to a thousand times the recipe's rate
  fttool find-lr my.toml --plot lr.png              with a picture (or .svg, .pdf)
  fttool find-lr my.toml --from 1e-6 --to 1 --updates 60
  fttool find-lr my.toml --set optimizer=sgd --json > lr.json

next: fttool run my.toml --set optimizer.lr=…, or fttool sweep my.toml --over optimizer.lr=…
"""


def main(words: Sequence[str]) -> int:
    """Climb, read the losses, and say what they say."""
    options = _parser().parse_args(words)
    file: Path | None = options.plot
    if file is not None:
        from fttool_plugins.verbs.compare.plotting import refuse_image

        refuse_image(file)
        if file.exists():
            raise UsageError(f"'{file}' exists; it is never overwritten", hint="name another file: --plot FILE")
    loaded = load_recipe(options)

    from fttool_plugins.verbs.find_lr.climbing import climb_of, range_test
    from fttool_plugins.verbs.find_lr.showing import as_json, fill, screen

    climb = climb_of(loaded, options.low, options.high, options.updates)
    found = range_test(loaded, climb, quiet=options.quiet or options.json)
    if file is not None:
        from fttool_plugins.verbs.compare.plotting import write_figure

        write_figure(file, (7.5, 5.0), lambda figure: fill(figure, found))
        show(f"wrote {file}", error=True)
    if options.json:
        print(json.dumps(as_json(loaded, climb, found), indent=2, ensure_ascii=False))
    else:
        show(*screen(loaded, climb, found))
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("find-lr", __doc__, EXAMPLES)
    add_recipe(parser)
    a, b = "of the first update; default: a hundredth of optimizer.lr", "of the last; default: a thousand times it"
    parser.add_argument("--from", dest="low", type=above_0, metavar="LR", help=a)
    parser.add_argument("--to", dest="high", type=above_0, metavar="LR", help=b)
    parser.add_argument("--updates", type=positive, default=100, metavar="N", help="at most; default: 100")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the losses by rate (or .svg, .pdf)")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    return parser
