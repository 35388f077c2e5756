"""Random numbers that go on as if nothing had been drawn in between."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def untouched_randomness(devices: Sequence[int | torch.device]) -> Generator[None]:
    """While open, numbers may be drawn and seeds set; afterwards all goes on as if nothing had been."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
