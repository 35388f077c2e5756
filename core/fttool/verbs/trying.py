"""A run that is made for its numbers, in this process: nothing is shown, and it can be stopped by what it logs.

For verbs that compare runs which they make themselves.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from typing_extensions import override

from fttool.errors import ExitCode, StoppedError
from fttool.recipe.loaded import Loaded
from fttool.watch.screen import Screen

Heard: TypeAlias = Callable[[int, Mapping[str, Any]], bool]
"""The number of an update, and what was logged after it → whether the run is to stop."""


class _Listening(Screen):
    """Shows nothing; asks the run to stop, as a signal does, where whoever listens wants that."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.asked = self.in_loop = False

    @override
    def started(self, total: int, done: int) -> None:
        self.in_loop = True

    @override
    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        if self.heard(step, values) and self.in_loop and not self.asked:
            self.asked = True
            signal.raise_signal(signal.SIGTERM)

    @override
    def stopped(self) -> None:
        self.in_loop = False


def short_run(loaded: Loaded, heard: Heard | None = None, *, saves: bool = False) -> Mapping[str, Any]:
    """Run the recipe in one process; returns what `summary.json` has. The run directory is where the recipe says.

    `heard` is told every line of `metrics.jsonl`. Where it answers True, the run ends after the next update; its status
    is then `interrupted`. Without `saves` neither checkpoints nor a model stay. To be called in the main thread.

    Raises:
        FttoolError: the one that `fttool run` would print.
        KeyboardInterrupt: where somebody else's signal has stopped it; a `StoppedError` for all but Ctrl-C.
    """
    from fttool.runs.refusing import refuse_early
    from fttool.runs.run import run

    refuse_early(loaded, resume=False)
    screen = _Listening(heard or (lambda step, values: False))
    ended = run(loaded, screen, saves=saves)
    if ended.code != ExitCode.OK and not screen.asked:
        raise KeyboardInterrupt if ended.code == ExitCode.INTERRUPTED else StoppedError(ended.code - 128)
    return ended.summary
