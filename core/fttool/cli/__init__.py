"""The command line: one file per verb, imported only when its verb is called, so that help is quick.

More verbs come from plugins, see `plugin_verbs`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import shutil
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext

from fttool.cli import plugin_verbs
from fttool.cli.parser import verb_parser
from fttool.disk import told
from fttool.errors import ExitCode, FttoolError, StoppedError, UsageError, did_you_mean, gist
from fttool.streams import fill_gaps, let_go, patient
from fttool.visible import in_lines, show, tell
from fttool.world import REPORTS
from fttool.wrapping import beside, fold_page

VERBS = {
    "run": "fine-tune as a recipe says",
    "validate": "check a recipe, without loading a model",
    "preview": "show rows token by token, with what is learned",
    "generate": "talk to a fine-tuned model",
    "verify": "check a run directory against its hashes",
    "init": "write a commented recipe to start from",
    "plugins": "list strategies, explain one, or start a plugin package",
    "completion": "print a script that completes words in bash, zsh or fish",
    "schema": "print the recipe's JSON Schema, for completion in an editor",
}

ONLY_PRINT = (
    "--help",
    "-h",
    "--version",
    "completion",
    "generate",
    "plugins",
    "preview",
    "schema",
    "validate",
)
"""These are of no use to a reader who has gone, and end; what all others do goes on."""

BRIEF = ("completion", "plugins", "schema", "validate")
"""Verbs that end before there is garbage worth collecting. Most of what they make is classes, which stay; the collector
would look through all of them a dozen times."""

FIRST = """\
Fine-tune language models from a recipe in which every strategy is a plugin.

to see a whole run, offline, in two minutes:
  fttool recipes copy quickstart
  fttool run quickstart.toml

with your own rows:
  fttool init my.toml --data chats.jsonl             a commented recipe for them
  fttool preview my.toml                             which tokens are learned?
  fttool run my.toml --dry-run                       load and check everything, train nothing
  fttool run my.toml
  fttool generate runs/my "How do I sort a list?"    ask the result
"""
"""What somebody sees who types `fttool` alone."""

EXAMPLES = """\
examples:
  fttool recipes copy quickstart                     a recipe and its rows, to try
  fttool init my.toml --data chats.jsonl             a commented recipe for rows of your own
  fttool run my.toml --dry-run                       load and check everything, train nothing
  fttool generate runs/my "How do I sort a list?"    ask the result
"""

SCREEN = 22
"""Lines of problems that are printed at once; with what follows them a terminal of 24 lines shows all."""
WIDEST = 500
"""Characters of a line that are printed: a value from a file may be of any length."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `fttool` command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    fill_gaps()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "…" must not end a run
    if words and words[0].startswith("--local_rank="):  # DeepSpeed's launcher puts it there, and into the environment
        del words[0]
    with patient("stderr", *(() if words[:1] and words[0] in ONLY_PRINT else ("stdout",))):
        code = _exit_code(words)
    let_go()
    if "RANK" in os.environ:
        from fttool.launch.worker import leave

        leave(code)
    return code


def _exit_code(words: list[str]) -> int:
    """Answer, or say what is wrong."""
    debug = "--debug" in words
    try:
        with told():
            code = _answer(words)
            sys.stdout.flush()  # so that a reader who has gone, or a disk that is full, is noticed here
        return code
    except FttoolError as error:
        if not _reported(error, in_lines(_problems(error)), error.exit_code):
            if debug:
                raise
            tell(*_problems(error), error=True)
        return error.exit_code
    except StoppedError as stopped:
        show(str(stopped), error=True)
        return stopped.exit_code
    except KeyboardInterrupt:
        show("interrupted", error=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `fttool --help | head`
        return ExitCode.OK
    except Exception as fault:
        text = f"fttool failed: {gist(fault)[:WIDEST]}"
        if not _reported(fault, text, ExitCode.FAILURE):
            if debug:
                raise
            tell(text, "    add --debug for the traceback", error=True)
        return ExitCode.FAILURE


def _answer(words: list[str]) -> int:
    """Help, the version, or a verb."""
    if not words:
        verbs = ", ".join([*VERBS, *plugin_verbs.installed(VERBS)])
        show(*_page(f"{FIRST}\nall commands (fttool --help has a line on each): {verbs}"))
        return ExitCode.OK
    if words[0] in ("-h", "--help"):
        show(*_help())
        return ExitCode.OK
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"fttool {version('fttool')}")
        return ExitCode.OK
    return _call(words[0], words[1:])


def _call(verb: str, words: list[str]) -> int:
    if verb in VERBS:
        with _no_collection() if verb in BRIEF else nullcontext():
            module = importlib.import_module(f"fttool.cli.{verb}")
            parser = verb_parser(verb, module.__doc__, module.EXAMPLES)
            module.configure(parser)
            return int(module.main(parser.parse_args(words)))
    more = plugin_verbs.installed(VERBS)
    if verb in more:
        return plugin_verbs.call(more[verb], words)
    raise UsageError(f"unknown command '{verb}'", hint=_instead(verb, [*VERBS, *more]))


@contextmanager
def _no_collection() -> Generator[None]:
    """Around what makes no garbage in cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.unfreeze()  # all is old now: the next collection, of what is young, does not look through it
            gc.enable()
            atexit.register(gc.freeze)  # what goes with the process need not be looked through first


def _instead(word: str, verbs: list[str]) -> str:
    """What does the job of a verb that is not there; else the nearest one."""
    from fttool.cli.not_verbs import DONE_BY

    return DONE_BY.get(word) or did_you_mean(word, verbs)


def _page(text: str) -> list[str]:
    return list(fold_page(text, shutil.get_terminal_size().columns))


def _help() -> list[str]:
    more = {name: plugin_verbs.summary(verb) for name, verb in plugin_verbs.installed(VERBS).items()}
    verbs = {**VERBS, **more}
    width = max(map(len, verbs))
    lines = ["usage: fttool COMMAND …  (fttool COMMAND --help explains it)", "", "commands:"]
    room = shutil.get_terminal_size().columns
    lines += [part for verb, what in verbs.items() for part in beside(f"  {verb:<{width}}  ", what, room)]
    return [*lines, "", *_page(f"{EXAMPLES}\nnext: fttool recipes copy quickstart")]


def _reported(fault: BaseException, text: str, exit_code: int) -> bool:
    """True in a process of a run whose launcher will say what is wrong with it."""
    if REPORTS not in os.environ:
        return False
    from fttool.launch.worker import report

    return report(fault, text, exit_code)


def _problems(error: FttoolError) -> list[str]:
    """The problems, one screen of them."""
    shown: list[str] = []
    for number, problem in enumerate(error.problems):
        lines = [f"{line[:WIDEST]} …" if len(line) > WIDEST else line for line in str(problem).splitlines()[:SCREEN]]
        if len(shown) + len(lines) > SCREEN:
            shown.append(f"… and {len(error.problems) - number} more")
            break
        shown += lines
    return shown
