"""Two runs at once that take turns, update by update, so that what else a machine does falls on both alike.

Each has a pipe from which its first process reads before an update: the other writes to it after one of its own. A turn
begins and ends with all of a run's processes at the same place: what one of them lags behind is part of the update.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import TrainerCallback

LEFT_OUT = 2
"""Updates at the start of a run that are neither timed nor take turns: they touch memory for the first time."""


def make(folder: Path) -> None:
    """The pipes of the two."""
    for who in ("fttool", "plain"):
        os.mkfifo(folder / f"{who}.turn")


class Turns(TrainerCallback):
    """Of one of the two, in each of its processes."""

    def __init__(self, folder: Path, who: str, *, first: bool) -> None:
        other = {"fttool": "plain", "plain": "fttool"}[who]
        # for reading and writing: so it opens before the other one does, and outlives it
        self.mine, self.others = (os.open(folder / f"{name}.turn", os.O_RDWR) for name in (who, other))
        self.first = first
        self.seconds: list[tuple[float, float]] = []
        """Of each update after the first ones: on the clock, and of this process's processor time."""
        self.began = (0.0, 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note an update, let the other make one, and come back when it has."""
        done = state.global_step
        if done < LEFT_OUT:
            return
        dist.barrier()
        end = time.perf_counter(), time.process_time()
        if done > LEFT_OUT:
            self.seconds.append((end[0] - self.began[0], end[1] - self.began[1]))
        if args.process_index == 0:
            if done > LEFT_OUT or not self.first:
                os.write(self.others, b".")
            if done < state.max_steps:
                os.read(self.mine, 1)
        dist.barrier()
        self.began = time.perf_counter(), time.process_time()
