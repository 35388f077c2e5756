"""List the strategies that are installed, explain one, or start a package with strategies of your own."""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from fttool.cli.parser import Parser
from fttool.cli.plugin_verbs import claimed
from fttool.contracts import FAMILIES
from fttool.errors import ExitCode, PluginError, UsageError, did_you_mean
from fttool.listing import Listed, find, listed
from fttool.plugins import OURS, Plugins
from fttool.visible import show
from fttool.wrapping import beside, fold_page

EXAMPLES = """\
examples:
  fttool plugins                         every strategy, and every plugin that cannot be used, with the reason
  fttool plugins --family schedule       those of one family
  fttool plugins forget                  those that have a word in their id, options or description
  fttool plugins --json                  the same as one JSON list
  fttool plugins show wsd                what it does, its options, an example
  fttool plugins show schedule.constant  an id that several families have
  fttool plugins new acme                a package of your own, with a strategy, its tests and a README

next: fttool run my.toml --set schedule.name=wsd
"""


def configure(parser: Parser) -> None:
    """Arguments of this verb."""
    inner = "list | show | new"
    verbs = parser.add_subparsers(dest="verb", metavar=inner, help="fttool plugins show --help explains one")
    parser.otherwise = "list"
    listing = verbs.add_parser("list", help="list strategies; so does `fttool plugins`", description="List strategies.")
    listing.add_argument("word", nargs="?", metavar="WORD", help="in the id, options or description of a strategy")
    listing.add_argument("--family", metavar="FAMILY", help=", ".join(FAMILIES))
    listing.add_argument("--json", action="store_true", help="one JSON list on stdout")
    show = verbs.add_parser("show", help="explain a strategy", description="Explain a strategy.")
    show.add_argument("id", metavar="ID", help="wsd, schedule.wsd, acme.trapezoid …")
    new = verbs.add_parser(
        "new", help="start a plugin package", description="Write a plugin package that passes its own tests."
    )
    new.add_argument("name", metavar="NAME", help="lower case; ids will start with it, the package is fttool-NAME")
    new.add_argument(
        "--dir", type=Path, default=Path(), metavar="DIR", help="folder in which fttool-NAME is created (default: here)"
    )
    for inner_parser in (
        listing,
        show,
        new,
    ):  # argparse looks for the outer parser's --debug before the inner verb only
        inner_parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")


def main(options: argparse.Namespace) -> int:
    """Print the list or the page, or write the package."""
    if options.verb == "show":
        from fttool.cli.plugin_page import page

        plugins = Plugins.discover()
        strategy = find(plugins, options.id)
        show(*fold_page(page(strategy, plugins), shutil.get_terminal_size().columns))
    elif options.verb == "new":
        from fttool.cli.new_plugin import write

        folder = write(options.name, options.dir)
        show(f"made {folder}", "", f"  cd {folder}", "  pip install -e '.[test]'", "  pytest")
    else:
        rows = chosen(Plugins.discover(), options.family, options.word)
        show(*(json.dumps([asdict(row) for row in rows], indent=1).split("\n") if options.json else table(rows)))
    return ExitCode.OK


def chosen(plugins: Plugins, family: str | None, word: str | None) -> list[Listed]:
    """What is installed; only of a family, or with a word, if they are given. None at all is an error."""
    from fttool.cli import VERBS

    if family is not None and family not in FAMILIES:
        raise UsageError(f"unknown family '{family}'", hint=did_you_mean(family, list(FAMILIES)))
    rows = [*listed(plugins), *_unusable(VERBS)]
    if family is not None:
        rows = [row for row in rows if row.family == family]
    if word is None:
        return rows
    matching = [row for row in rows if word.lower() in _words_of(row, plugins)]
    if not matching:
        near = did_you_mean(word, [row.id for row in rows if row.id])
        hint = f"{near} " if near.endswith("?") else ""
        raise PluginError(f"no strategy mentions '{word}'", hint=f"{hint}`fttool plugins` lists them all")
    return matching


def _unusable(core: Container[str]) -> list[Listed]:
    """A row of `fttool plugins` for each claim of a verb that nobody gets, or that core has itself."""
    rows: list[Listed] = []
    for name, verb in claimed().items():
        error = verb.clash
        if name in core:
            error = f"'{name}' is a built-in command, and that is what `fttool {name}` calls"
        for point in verb.points if error else ():
            distribution, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
            rows.append(Listed(None, None, name, distribution, version, "clash", error))
    return rows


def _words_of(row: Listed, plugins: Plugins) -> str:
    """All in which a word is looked for, in lower case."""
    words = [row.plugin, row.distribution, row.error or ""]
    for strategy in plugins.strategies_of(row.plugin) if row.id else ():
        if (strategy.id(), strategy.family) == (row.id, row.family):
            words += [strategy.id(), strategy.family, *strategy.model_fields, inspect.getdoc(strategy) or ""]
    return " ".join(words).lower()


def _place(family: str) -> str:
    """Where the strategies of a family stand in a recipe: `[schedule]`, `[[filters]]`, `data.*.format`."""
    place = FAMILIES[family].place
    if "." in place.table:
        return place.table
    return f"[[{place.table}]]" if place.many else f"[{place.table}]"


def table(listed: Sequence[Listed]) -> Iterator[str]:
    """A line for each strategy, below its family; last what cannot be used, with the reason."""
    room = max(60, shutil.get_terminal_size().columns)
    strategies = [row for row in listed if row.id]
    width = max((len(str(row.id)) for row in strategies), default=0)
    for family, rows in groupby(strategies, key=lambda row: str(row.family)):
        yield f"{family}  {_place(family)}"
        for row in rows:
            owner = "" if row.distribution == OURS else f" ({row.distribution} {row.version})"
            yield from beside(f"  {row.id:<{width}}  ", f"{row.about}{owner}", room)
        yield ""
    lacking = [row for row in listed if not row.id]
    for row in lacking:
        yield f"{row.status}: {row.plugin}, of {row.distribution} {row.version}"
        yield from beside("    ", row.error or "", room)
    yield from ([""] if lacking else [])
    yield "next: fttool plugins show ID explains one"
