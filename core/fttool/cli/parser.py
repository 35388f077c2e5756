"""The parser of a verb's arguments: one form of help for all, and options anywhere among the other words."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any, NoReturn

from fttool.visible import on_one_line


class Parser(argparse.ArgumentParser):
    """Reads `RUN --option value "question"` too, where `argparse` by itself finds no word behind the option."""

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]  # typeshed has a type variable for `namespace`
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        """As `argparse` does; it cannot intermix where there are inner verbs."""
        words = None if args is None else list(args)
        inner = self._subparsers is not None
        return super().parse_args(words, namespace) if inner else self.parse_intermixed_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Words that it does not know are text of strangers, too."""
        super().error(on_one_line(message))


def verb_parser(verb: str, description: str | None, examples: str) -> Parser:
    """A parser like those of core's verbs: what it does, its arguments, then examples; with `--debug`."""
    parser = Parser(
        prog=f"fttool {verb}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser
