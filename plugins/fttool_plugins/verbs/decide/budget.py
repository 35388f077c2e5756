"""Time that measuring may take, and an alarm that ends it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

AGAIN = 1.0
"""Seconds after which the alarm goes off once more: code that cannot raise, such as a destructor, swallows one."""


class TimeIsUpError(BaseException):
    """Ends whatever is being measured; not an `Exception`, so nothing that goes on in spite of errors goes on."""


class Budget:
    """So many seconds from now on."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock, self._began = clock, clock()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds to the end; below 0 behind it."""
        return self.seconds - self.spent

    def holds(self, seconds: float) -> bool:
        """Whether something that takes so long can still be done."""
        return seconds <= self.left

    @contextmanager
    def held(self) -> Generator[None]:
        """What is within is ended by `TimeIsUpError` once the time is up, wherever it is; only in the main thread."""
        armed = True

        def ring(number: int, frame: Any) -> None:
            if armed:
                raise TimeIsUpError

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, self.left), AGAIN)
            yield
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
