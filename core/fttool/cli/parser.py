"""The parser of a verb's arguments: one form of help for all, and options anywhere among the other words."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from fttool.errors import ExitCode, did_you_mean
from fttool.visible import tell
from fttool.wrapping import beside, fold_page


class Help(argparse.RawDescriptionHelpFormatter):
    """Description and examples as they were written, as far as the terminal is wide enough for them."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(fold_page(text, width))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return beside("", " ".join(text.split()), width)


class Parser(argparse.ArgumentParser):
    """Reads `RUN --option value "question"` too, where `argparse` by itself finds no word after the option."""

    otherwise: str | None = None
    """The inner verb that is meant where none is named; its options then stand after the verb itself."""

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]  # typeshed has a type variable for `namespace`
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        """As `argparse` does; it cannot intermix where there are inner verbs."""
        words = None if args is None else list(args)
        if self._subparsers is None:
            return self.parse_intermixed_args(words, namespace)
        if self.otherwise and words is not None and not {*self._inner_verbs(), "-h", "--help"}.intersection(words):
            words.insert(0, self.otherwise)
        return super().parse_args(words, namespace)

    def _inner_verbs(self) -> Iterable[str]:
        return next(action.choices or () for action in self._actions if isinstance(action, argparse._SubParsersAction))  # pyright: ignore[reportPrivateUsage]

    def error(self, message: str) -> NoReturn:
        """Words that it does not know are text of strangers, too; of a misspelt option the right one is said."""
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        near = did_you_mean(unknown[1], [*self._option_string_actions]) if unknown else ""
        self.print_usage(sys.stderr)
        ways = [near if near.endswith("?") else "", f"`{self.prog} --help` explains them"]
        tell(f"{self.prog}: error: {message}", f"    {' '.join(filter(None, ways))}", error=True)
        self.exit(ExitCode.USAGE)


def verb_parser(verb: str, description: str | None, examples: str) -> Parser:
    """A parser like those of core's verbs: what it does, its arguments, then examples; with `--debug`."""
    parser = Parser(
        prog=f"fttool {verb}",
        description=description,
        epilog=examples,
        formatter_class=Help,
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser
