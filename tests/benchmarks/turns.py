"""Two runs at once that take turns, update by update, so that what else a machine does falls on both alike.

Each has a pipe from which its first process reads before an update: the other writes to it after one of its own. Its
other processes wait for the first one, as the engines make them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

LEFT_OUT = 2
"""Updates at the start of a run that are neither timed nor take turns: they touch memory for the first time."""


def make(folder: Path) -> None:
    """The pipes of the two."""
    for who in ("fttool", "plain"):
        os.mkfifo(folder / f"{who}.turn")


class Turns:
    """One of the two: call `ended` after each update."""

    def __init__(self, folder: Path, who: str, updates: int, *, first: bool) -> None:
        other = {"fttool": "plain", "plain": "fttool"}[who]
        # for reading and writing: so it opens before the other one does, and outlives it
        self.mine, self.others = (os.open(folder / f"{name}.turn", os.O_RDWR) for name in (who, other))
        self.updates, self.first = updates, first
        self.seconds: list[tuple[float, float]] = []
        """Of each update after the first ones: on the clock, and of this process's processor time."""
        self.done = 0
        self.began = (0.0, 0.0)

    def ended(self) -> None:
        """Note an update, let the other make one, and come back when it has."""
        end = time.perf_counter(), time.process_time()
        self.done += 1
        if self.done < LEFT_OUT:
            return
        if self.done > LEFT_OUT:
            self.seconds.append((end[0] - self.began[0], end[1] - self.began[1]))
        if self.done > LEFT_OUT or not self.first:
            os.write(self.others, b".")
        if self.done < self.updates:
            os.read(self.mine, 1)
        self.began = time.perf_counter(), time.process_time()
