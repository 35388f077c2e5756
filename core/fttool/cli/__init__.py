"""The command line: one file per verb, imported only when its verb is called, so that help is quick.

More verbs come from the entry-point group `fttool.commands.v1`: the entry point's name is the verb, and what it loads
is called with the remaining arguments and returns an exit code. A core verb cannot be shadowed.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from textwrap import shorten

from fttool.errors import ExitCode, FttoolError, PluginError, UsageError, did_you_mean, gist
from fttool.training.world import REPORTS

COMMANDS_GROUP = "fttool.commands.v1"

VERBS = {
    "run": "fine-tune as a recipe says",
    "validate": "check a recipe, without loading a model",
    "preview": "show rows token by token, with what is learned",
    "generate": "talk to a fine-tuned model",
    "compare": "show runs side by side: gained, forgotten, cost",
    "init": "write a commented recipe to start from",
    "plugins": "list strategies, explain one, or start a plugin package",
    "schema": "print the recipe's JSON Schema, for completion in an editor",
}

EXAMPLES = """\
examples:
  fttool init my.toml                                start from a commented recipe
  fttool preview my.toml                             which tokens are learned?
  fttool run my.toml --dry-run                       load and check everything, train nothing
  fttool run my.toml --set schedule.name=wsd         swap a strategy for one run
  fttool generate runs/my "How do I sort a list?"    ask the result
"""

SCREEN = 22
"""Lines of problems that are printed at once; with what follows them a terminal of 24 lines shows all."""
WIDEST = 500
"""Characters of a line that are printed: a value from a file may be of any length."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `fttool` command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without "…" must not end a run
    if words and words[0].startswith("--local_rank="):  # DeepSpeed's launcher puts it there, and into the environment
        del words[0]
    code = _exit_code(words)
    if "RANK" in os.environ:
        from fttool.runs.worker import leave

        leave(code)
    return code


def _exit_code(words: list[str]) -> int:
    """Answer, or say what is wrong."""
    debug = "--debug" in words
    try:
        code = _answer(words)
        sys.stdout.flush()  # so that a reader who has gone is noticed here
        return code
    except FttoolError as error:
        if not _reported(error, _problems(error), error.exit_code):
            if debug:
                raise
            print(_problems(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `fttool --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as fault:
        text = f"fttool failed: {gist(fault)[:WIDEST]}"
        if not _reported(fault, text, ExitCode.FAILURE):
            if debug:
                raise
            print(f"{text}\n    add --debug for the traceback", file=sys.stderr)
        return ExitCode.FAILURE


def _answer(words: list[str]) -> int:
    """Help, the version, or a verb."""
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return ExitCode.OK
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"fttool {version('fttool')}")
        return ExitCode.OK
    return _call(words[0], words[1:])


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
        return _call_plugin(more[verb], words)
    known = [*VERBS, *more]
    raise UsageError(f"there is no verb '{verb}'", hint=did_you_mean(verb, known))


def _call_plugin(point: EntryPoint, words: list[str]) -> int:
    """A verb of a plugin; it may exit by itself, as argparse does, but not while it is imported."""
    owner = f"verb '{point.name}' of {point.dist.name} {point.dist.version}" if point.dist else f"verb '{point.name}'"
    try:
        command = point.load()
    except (Exception, SystemExit) as fault:
        raise PluginError(f"the {owner} cannot be imported: {gist(fault)}", hint="update or uninstall it") from fault
    try:
        return int(command(words))
    except (FttoolError, BrokenPipeError):
        raise
    except Exception as fault:
        hint = "tell its authors; --debug shows the traceback"
        raise PluginError(f"the {owner} raised {gist(fault)}", hint=hint) from fault


def _help() -> str:
    more = {point.name: _summary(point) for point in entry_points(group=COMMANDS_GROUP) if point.name not in VERBS}
    verbs = {**VERBS, **more}
    width = max(map(len, verbs))
    lines = ["usage: fttool VERB …    (fttool VERB --help explains one)", "", "verbs:"]
    lines += [f"  {verb:<{width}}  {what}" for verb, what in verbs.items()]
    return "\n".join([*lines, "", EXAMPLES.rstrip()])


def _summary(point: EntryPoint) -> str:
    """A verb in one line: the first of its module's docstring, which is read without importing it; else its owner."""
    import ast

    try:
        file = _source(point.module)
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file else None
    except (OSError, ValueError, SyntaxError):  # `fttool VERB` will say what is wrong with it
        docstring = None
    if not docstring:
        return f"from {point.dist.name if point.dist else 'a plugin'}"
    line = docstring.splitlines()[0].rstrip(".")
    return shorten(line[0].lower() + line[1:], 66, placeholder=" …")


def _source(module: str) -> Path | None:
    """The file of a module, found as `import` would find it, without running the packages around it."""
    name, around, file = "", None, None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = next(filter(None, (finder.find_spec(name, around) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        around, file = spec.submodule_search_locations, spec.origin
    return Path(file) if file else None


def _reported(fault: BaseException, text: str, exit_code: int) -> bool:
    """True in a process of a run whose launcher will say what is wrong with it."""
    if REPORTS not in os.environ:
        return False
    from fttool.runs.worker import report

    return report(fault, text, exit_code)


def _problems(error: FttoolError) -> str:
    """The problems, one screen of them."""
    shown: list[str] = []
    for number, problem in enumerate(error.problems):
        lines = [f"{line[:WIDEST]} …" if len(line) > WIDEST else line for line in str(problem).splitlines()[:SCREEN]]
        if len(shown) + len(lines) > SCREEN:
            shown.append(f"… and {len(error.problems) - number} more")
            break
        shown += lines
    return "\n".join(shown)
