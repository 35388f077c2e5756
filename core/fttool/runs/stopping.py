"""Signals that end a run: Ctrl-C, SIGTERM from a scheduler, SIGHUP from a terminal that has been closed.

In the loop they let the update finish, and a checkpoint is saved. Anywhere else, while rows and model are loaded or the
final model is saved, there is nothing to be finished that is not made again by `--resume`: the run ends at once, says
so, and leaves a summary where it has a run directory.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.errors import StoppedError
from fttool.world import REPORTS

if TYPE_CHECKING:
    from fttool.training.job import Job

HANG_UP = getattr(signal, "SIGHUP", None)
"""None on Windows."""
ASKED = "asked"
"""In the folder where processes leave word for their launcher: it was sent a signal, which it hands on."""
FROM_OUTSIDE = (signal.SIGTERM,) if HANG_UP is None else (signal.SIGTERM, HANG_UP)


@contextmanager
def stoppable() -> Generator[None]:
    """While open, SIGTERM and SIGHUP raise `StoppedError`, as Ctrl-C raises `KeyboardInterrupt`; one of them, once.

    A process that a launcher of ours has started is also sent SIGTERM when another one has failed. It then ends as if
    there were no handler: it was not asked to stop, which the launcher says beforehand where it hands a signal on.
    """
    launched, stopped = os.environ.get(REPORTS), False

    def stop(number: int, frame: Any) -> None:
        nonlocal stopped
        if stopped:  # it is on its way out: what it writes last is worth more than a few seconds
            return
        if launched is not None and number == signal.SIGTERM and not (Path(launched) / ASKED).exists():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        stopped = True
        raise StoppedError(number)

    with handled(stop, *FROM_OUTSIDE):
        yield


@contextmanager
def stopping(job: Job) -> Generator[None]:
    """Around the loop: the first signal lets the update finish and saves; a second Ctrl-C stops at once."""

    def note(number: int, frame: Any) -> None:
        if job.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        job.asked = number
        how = ", with a checkpoint" if job.output.saves else ""
        with suppress(RuntimeError):  # the signal came while a line was written, which cannot be written into
            job.watch.note(f"stopping after this update{how}; Ctrl-C again to stop at once")

    with handled(note, signal.SIGINT, *FROM_OUTSIDE):
        yield


@contextmanager
def undisturbed() -> Generator[None]:
    """While open, a signal that would end the run is not heard: how it ended is being written, which takes a moment."""

    def too_late(number: int, frame: Any) -> None:
        """It ends anyway."""

    with handled(too_late, signal.SIGINT, *FROM_OUTSIDE):
        yield


@contextmanager
def handled(handler: Callable[[int, Any], None], *numbers: int) -> Generator[None]:
    """While open, these signals call `handler`; but not SIGHUP where it is ignored, as `nohup` has it.

    Only the main thread can receive signals: in another one nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [each for each in numbers if each != HANG_UP or signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
