"""What goes wrong, written for the person who reads it, and the exit code that says which kind it is.

A `Problem` is one thing found: what, where (file:line:column), and what to type next. An `FttoolError` carries one or
many of them (a recipe is reported whole, not up to its first mistake), and its class decides the exit code.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from fttool.visible import in_lines


class ExitCode(IntEnum):
    """What the process answers to its caller; documented in `docs/first-run.md`."""

    OK = 0
    """The run has finished, or the verb has done what it was asked for."""
    FAILURE = 1
    """A fault of fttool itself, or a version of a library that it cannot work with."""
    USAGE = 2
    """The command line, or an output folder that must not be overwritten."""
    RECIPE = 3
    """The recipe."""
    DATA = 4
    """The rows."""
    MODEL = 5
    """The model, its tokenizer or its chat template."""
    PLUGIN = 6
    """A plugin that the recipe needs."""
    OUT_OF_MEMORY = 7
    """Of the device or the machine."""
    DIVERGED = 8
    """A loss or gradient became NaN or infinite."""
    DISK = 9
    """A disk takes no more (full, quota, read-only), or a run directory on it is damaged, moved or deleted."""
    TRACKER = 10
    """An experiment tracker cannot begin."""
    HUNG_UP = 129
    """SIGHUP: the terminal has been closed; a checkpoint has been written, if training had begun."""
    INTERRUPTED = 130
    """SIGINT, that is Ctrl-C; as for SIGHUP."""
    PREEMPTED = 143
    """SIGTERM; as for SIGHUP."""

    @classmethod
    def of_signal(cls, number: int) -> ExitCode:
        """What a process answers that was ended by a signal, by the shell's convention."""
        return cls(128 + number)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    message: str
    """What was found, in one sentence."""
    where: str = ""
    """`file:line:column`, `file:line`, or `--set key`."""
    hint: str = ""
    """What to do next."""
    key: tuple[str | int, ...] = ()
    """Path of the recipe key, e.g. `("schedule", "warmup")`; located to `where` by whoever knows the file."""

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return in_lines([head, f"    {self.hint}"] if self.hint else [head])


class FttoolError(Exception):
    """Anything a user can mend; printed without a traceback."""

    exit_code: ExitCode = ExitCode.FAILURE
    """What the command line answers when it is raised."""

    def __init__(self, problems: str | Problem | Iterable[Problem], *, where: str = "", hint: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem(problems, where, hint)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__()

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def locate(self, where: Callable[[tuple[str | int, ...]], str], key: tuple[str | int, ...] = ()) -> None:
        """Give every problem without a place that of its own key in the recipe, else that of `key`."""
        self.problems = tuple(
            p if p.where or not (p.key or key) else replace(p, where=where(p.key or key)) for p in self.problems
        )


class UsageError(FttoolError):
    """The command line asks for something that cannot be done."""

    exit_code = ExitCode.USAGE


class RecipeError(FttoolError):
    """The recipe is wrong."""

    exit_code = ExitCode.RECIPE


class DataError(FttoolError):
    """The rows are wrong."""

    exit_code = ExitCode.DATA


class ModelError(FttoolError):
    """The model, its tokenizer or its chat template is wrong."""

    exit_code = ExitCode.MODEL


class PluginError(FttoolError):
    """A plugin that the recipe needs is missing, broken or misbehaves."""

    exit_code = ExitCode.PLUGIN
    by: object = None
    """The strategy of the recipe that misbehaves; None where it is none of them."""


class OutOfMemoryError(FttoolError):
    """The device or the machine has no memory left."""

    exit_code = ExitCode.OUT_OF_MEMORY
    with_fewer_rows: bool = False
    """True where it ran out on rows whose number `run.micro_batch` decides."""


class DivergedError(FttoolError):
    """A loss or a gradient is NaN or infinite."""

    exit_code = ExitCode.DIVERGED


class LibraryError(FttoolError):
    """A library that fttool stands on is not as it is relied on: another version of it is needed."""


class TrackerError(FttoolError):
    """An experiment tracker cannot begin; one that fails later is switched off."""

    exit_code = ExitCode.TRACKER


class StoppedError(KeyboardInterrupt):
    """A signal that asks the process to end, where there is nothing that it would be better to finish first.

    Like Ctrl-C it is not an `Exception`: nothing that goes on in spite of errors goes on in spite of it.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = ExitCode.of_signal(number)
        super().__init__(f"stopped by {signal.Signals(number).name}")


class DiskError(FttoolError):
    """A disk is full or read-only, or what lies on it is not what was written."""

    exit_code = ExitCode.DISK


def gist(fault: BaseException) -> str:
    """What was raised, on one line: the first of its message, or the last where that is a traceback itself."""
    lines = str(fault).strip().splitlines()
    if not lines:
        return type(fault).__name__
    relayed = any(line.startswith("Traceback") or "Original Traceback" in line for line in lines)
    return f"{type(fault).__name__}: {lines[-1] if relayed else lines[0]}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A sentence naming the nearest known spelling, or what exists; empty where nothing is known."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(sorted(known))}" if known else ""


def counted(count: int, noun: str) -> str:
    """A number with its noun in the right form: `1 row`, `2 rows`, `1,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
