"""List the strategies that are installed, explain one, or start a package with strategies of your own."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from fttool.errors import ExitCode
from fttool.plugins import Listed, Plugins
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool plugins                         every strategy, and every plugin that cannot be used, with the reason
  fttool plugins --json                  the same as one JSON list
  fttool plugins show wsd                what it does, its options, an example
  fttool plugins show schedule.constant  where an id stands in several families
  fttool plugins new acme                a package of your own, with a strategy, its tests and a README
"""

COLUMNS = ("id", "family", "plugin", "distribution", "version", "status")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    verbs = parser.add_subparsers(dest="verb", metavar="show | new", help="fttool plugins show --help explains one")
    show = verbs.add_parser("show", help="explain a strategy", description="Explain a strategy.")
    show.add_argument("id", metavar="ID", help="wsd, schedule.wsd, acme.trapezoid …")
    new = verbs.add_parser(
        "new", help="start a plugin package", description="Write a plugin package that passes its own tests."
    )
    new.add_argument("name", metavar="NAME", help="lower case; ids will start with it, the package is fttool-NAME")
    new.add_argument(
        "--dir", type=Path, default=Path(), metavar="DIR", help="folder that receives fttool-NAME (default: here)"
    )
    for inner in (show, new):  # argparse looks for the outer parser's --debug before the inner verb only
        inner.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")


def main(options: argparse.Namespace) -> int:
    """Print the list or the page, or write the package."""
    if options.verb == "show":
        from fttool.cli.plugin_page import page

        plugins = Plugins.discover()
        strategy = plugins.find(options.id)
        show(*page(strategy, plugins).split("\n"))
    elif options.verb == "new":
        from fttool.cli.new_plugin import write

        made = write(options.name, options.dir)
        show(f"made {made}", "", f"  cd {made}", "  pip install -e '.[test]'", "  pytest")
    else:
        from fttool.cli import VERBS
        from fttool.cli.plugin_verbs import unusable

        listed = [*Plugins.discover().listed(), *unusable(VERBS)]
        show(*(json.dumps([asdict(row) for row in listed], indent=1).split("\n") if options.json else table(listed)))
    return ExitCode.OK


def table(listed: Sequence[Listed]) -> Iterator[str]:
    """Lines of aligned columns; what is wrong with a plugin stands below its row."""
    cells = [COLUMNS, *(tuple(getattr(row, column) or "–" for column in COLUMNS) for row in listed)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = max(60, shutil.get_terminal_size().columns)
    for index, row in enumerate(cells):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        error = listed[index - 1].error if index else None
        if error:
            yield textwrap.fill(error, room, initial_indent="    ", subsequent_indent="    ")
