"""What a run shows: a live bar on a terminal, plain lines elsewhere, JSON events for programs, or nothing.

Progress goes to stderr; what the run is for (the closing screen, or the events) goes to stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from fttool.errors import ExitCode, FttoolError, Problem, StoppedError, gist
from fttool.events import Event, Failed, Logged, Note, Stage, Summary
from fttool.plain import as_json
from fttool.visible import on_one_line, show, tell, visible_json
from fttool.world import REPORTS

if TYPE_CHECKING:
    from rich.progress import Progress


_T = TypeVar("_T")

LINE_EVERY, BAR_EVERY = 10.0, 0.1
"""Seconds between two lines, or two moves of a bar, that show how far a long step is."""


class Screen:
    """Shows nothing (`-q`); the other screens derive their behaviour from what they override."""

    def stage(self, text: str) -> None:
        """A step of the preparation begins."""

    def note(self, text: str, hint: str = "") -> None:
        """Something that the user should know, and what to do about it."""

    def event(self, event: Event, *, known: bool = False) -> None:
        """Something that `events.jsonl` records; its text is a note, unless people have read it already."""
        if event.text and not known:
            self.note(event.text)

    def track(self, items: Sequence[_T], what: str) -> Iterable[_T]:
        """The items one by one: a step of the preparation that takes long, before the first update or while it runs."""
        self.stage(what)
        return items

    def started(self, total: int, done: int) -> None:
        """The first update is about to begin; `done` are behind already."""

    def step(self, step: int) -> None:
        """An update is done."""

    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        """A line was written to `metrics.jsonl`."""

    def stopped(self) -> None:
        """The loop is over, well or not."""

    def finished(self, summary: Mapping[str, Any], text: str) -> None:
        """The run has ended; `text` is the closing screen."""

    def failed(self, problems: Sequence[Problem], exit_code: int) -> None:
        """The run was refused, or has ended with an error; for people the command line writes it to stderr."""


class Lines(Screen):
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self.total = self.first = 0
        self.began = time.monotonic()

    @override
    def stage(self, text: str) -> None:
        show(f"… {text}", error=True)

    @override
    def note(self, text: str, hint: str = "") -> None:
        """A line; the hint is a second one."""
        show(f"  {text}", *([f"    {hint}"] if hint else []), error=True)

    @override
    def track(self, items: Sequence[_T], what: str) -> Iterable[_T]:
        """A line at its beginning, and one every ten seconds that says how far it is."""
        self.stage(what)
        began = shown = time.monotonic()
        for done, item in enumerate(items):
            now = time.monotonic()
            if done and now - shown >= LINE_EVERY:
                shown, left = now, (now - began) / done * (len(items) - done)
                show(f"  {done:,}/{len(items):,}  {what}  left {_duration(left)}", error=True)
            yield item

    @override
    def started(self, total: int, done: int) -> None:
        self.total, self.first, self.began = total, done, time.monotonic()

    @override
    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        """A line with loss, rate, speed and what is left."""
        show(f"  {step:>6}/{self.total}  {describe(values)}{self._left(step)}", error=True)

    def _left(self, step: int) -> str:
        done = step - self.first
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self.began) / done * (self.total - step)
        return f"  left {_duration(seconds)}"

    @override
    def finished(self, summary: Mapping[str, Any], text: str) -> None:
        """The closing screen on stdout."""
        tell(*text.split("\n"))


class Bar(Screen):
    """A live bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.progress: Progress | None = None
        self.shown = ""

    @override
    def stage(self, text: str) -> None:
        self._line(f"… {text}", style="dim")

    @override
    def note(self, text: str, hint: str = "") -> None:
        """A line; the hint is a second one."""
        self._line(f"  {text}")
        if hint:
            self._line(f"    {hint}")

    def _line(self, text: str, style: str | None = None) -> None:
        self.console.print(on_one_line(text), style=style, markup=False)

    @override
    def track(self, items: Sequence[_T], what: str) -> Iterable[_T]:
        """A bar of its own, above the run's where that is open, until the last item is done."""
        with self._bar() if self.progress is None else nullcontext(self.progress) as progress:
            task = progress.add_task(on_one_line(what), total=len(items))
            shown = time.monotonic()
            try:
                for done, item in enumerate(items, 1):
                    yield item
                    if time.monotonic() - shown >= BAR_EVERY:  # to move it takes longer than many an item
                        progress.update(task, completed=done)
                        shown = time.monotonic()
            finally:
                progress.remove_task(task)

    @override
    def started(self, total: int, done: int) -> None:
        self.progress = self._bar()
        self.task = self.progress.add_task("", total=total, completed=done)
        self.progress.start()

    def _bar(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
        )

    @override
    def step(self, step: int) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=step)

    @override
    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        """Training values stand beside the bar; an evaluation stays as a line above it."""
        if self.progress is None:
            return
        if "loss" in values:
            self.progress.update(self.task, description=on_one_line(describe(values)))
        else:
            self._line(f"  {step:>6}  {describe(values)}")

    @override
    def stopped(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    @override
    def finished(self, summary: Mapping[str, Any], text: str) -> None:
        """The closing screen on stdout."""
        tell(*text.split("\n"))


class Json(Screen):
    """Every event as one JSON object per line on stdout, see `fttool.events`."""

    @override
    def event(self, event: Event, *, known: bool = False) -> None:
        print(visible_json(json.dumps(as_json(event.stamped()), ensure_ascii=False, default=str)), flush=True)

    @override
    def stage(self, text: str) -> None:
        self.event(Stage(text=text))

    @override
    def note(self, text: str, hint: str = "") -> None:
        self.event(Note(text=text, hint=hint))

    @override
    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        self.event(Logged(values=values))

    @override
    def finished(self, summary: Mapping[str, Any], text: str) -> None:
        self.event(Summary(summary=summary))

    @override
    def failed(self, problems: Sequence[Problem], exit_code: int) -> None:
        described = [{"message": p.message, "where": p.where, "hint": p.hint} for p in problems]
        self.event(Failed(exit_code=int(exit_code), problems=described))


@contextmanager
def reporting(screen: Screen) -> Generator[None]:
    """Around a run: the screen hears how it ended, whatever that is.

    Not of a fault in a process that fttool has started: what went wrong first, of all of them, the launcher says.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as fault:
        if REPORTS not in os.environ or isinstance(fault, KeyboardInterrupt):
            screen.failed(*failure(fault))
        raise


def failure(fault: BaseException) -> tuple[Sequence[Problem], ExitCode]:
    """What is wrong, and the exit code that says so."""
    if isinstance(fault, FttoolError):
        return fault.problems, fault.exit_code
    if isinstance(fault, StoppedError):
        return (Problem(str(fault)),), fault.exit_code
    if isinstance(fault, KeyboardInterrupt):
        return (Problem("interrupted"),), ExitCode.INTERRUPTED
    return (Problem(gist(fault)),), ExitCode.FAILURE


def choose(*, quiet: bool, as_json: bool) -> Screen:
    """The screen for this process's output."""
    if as_json:
        return Json()
    if quiet:
        return Screen()
    return Bar() if sys.stderr.isatty() or _in_a_notebook() else Lines()


def _in_a_notebook() -> bool:
    """Whether rich can draw a bar below a notebook's cell, which is not a terminal."""
    asked = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return type(asked()).__name__ == "ZMQInteractiveShell" and find_spec("ipywidgets") is not None


def describe(values: Mapping[str, Any]) -> str:
    """Loss, rate and speed, or the evaluation's metrics, in one line."""
    if "loss" in values:
        parts = [
            f"loss {values['loss']:.4f}",
            f"lr {values['lr']:.2e}" if values["lr"] else "lr 0 (no weight changes)",  # where a climb begins
            f"{values['tokens_per_second']:,.0f} tokens/s",
        ]
        if "penalty" in values:
            parts.insert(1, f"penalty {values['penalty']:.3g}")
        return "  ".join(parts)
    shown: list[str] = []
    for kind, title in (("eval_", "evaluation"), ("retention_", "retention")):
        metrics = {name.removeprefix(kind): value for name, value in values.items() if name.startswith(kind)}
        shown += [title, *(f"{name} {value:.4f}" for name, value in metrics.items())] if metrics else []
    return "  ".join(shown)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
