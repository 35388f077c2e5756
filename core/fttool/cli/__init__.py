"""The command line: one file per verb, imported only when its verb is called, so that help is quick.

More verbs come from the entry-point group `fttool.commands.v1`: the entry point's name is the verb, and what it loads
is called with the remaining arguments and returns an exit code. A core verb cannot be shadowed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from fttool.errors import ExitCode, FttoolError, UsageError, did_you_mean

COMMANDS_GROUP = "fttool.commands.v1"

VERBS = {
    "run": "fine-tune as a recipe says",
    "validate": "check a recipe, without loading a model",
    "preview": "show rows token by token, with what is learned",
    "generate": "talk to a fine-tuned model",
    "init": "write a commented recipe to start from",
    "plugins": "list strategies, explain one, or start a plugin package",
    "schema": "print the recipe's JSON Schema, for completion in an editor",
}

EXAMPLES = """\
examples:
  fttool init my.toml                                start from a commented recipe
  fttool validate my.toml                            all problems at once, with file:line:column
  fttool preview my.toml                             which tokens are learned?
  fttool run my.toml --dry-run                       load and check everything, train nothing
  fttool run my.toml --set schedule.name=wsd         swap a strategy for one run
  fttool generate runs/my "How do I sort a list?"    ask the result
"""

SHOWN_PROBLEMS = 20
"""Problems printed at once: one screen."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `fttool` command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return ExitCode.OK
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"fttool {version('fttool')}")
        return ExitCode.OK
    try:
        return _call(words[0], words[1:])
    except FttoolError as error:
        if debug:
            raise
        _report(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `fttool schema | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as fault:
        if debug:
            raise
        print(
            f"fttool failed: {type(fault).__name__}: {fault}\n    add --debug for the traceback",
            file=sys.stderr,
        )
        return ExitCode.FAILURE


def _call(verb: str, words: list[str]) -> int:
    if verb in VERBS:
        module = importlib.import_module(f"fttool.cli.{verb}")
        parser = argparse.ArgumentParser(
            prog=f"fttool {verb}",
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(parser)
        parser.add_argument("--debug", action="store_true", help="show tracebacks")
        return int(module.main(parser.parse_args(words)))
    more = {point.name: point for point in entry_points(group=COMMANDS_GROUP)}
    if verb in more:
        return int(more[verb].load()(words))
    known = [*VERBS, *more]
    raise UsageError(f"there is no verb '{verb}'", hint=did_you_mean(verb, known))


def _help() -> str:
    lines = ["usage: fttool VERB …    (fttool VERB --help explains one)", "", "verbs:"]
    lines += [f"  {verb:<10} {what}" for verb, what in VERBS.items()]
    for point in entry_points(group=COMMANDS_GROUP):
        if point.name not in VERBS:
            lines.append(f"  {point.name:<10} from {point.dist.name if point.dist else 'a plugin'}")
    return "\n".join([*lines, "", EXAMPLES.rstrip()])


def _report(error: FttoolError) -> None:
    """Every problem on stderr, one screen of them."""
    for problem in error.problems[:SHOWN_PROBLEMS]:
        print(problem, file=sys.stderr)
    left = len(error.problems) - SHOWN_PROBLEMS
    if left > 0:
        print(f"… and {left} more", file=sys.stderr)
