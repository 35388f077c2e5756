"""What hours and tokens cost, from–to."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from fttool_plugins.verbs.estimate.hardware import GPU


@dataclass(frozen=True, slots=True)
class Span:
    """A figure with its uncertainty."""

    low: float
    middle: float
    high: float

    def __mul__(self, by: float) -> Span:
        return Span(self.low * by, self.middle * by, self.high * by)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.middle + other.middle, self.high + other.high)


@dataclass(frozen=True, slots=True)
class Price:
    """Of an hour of one GPU, in dollars."""

    low: float
    high: float
    source: str

    def of(self, gpu_hours: Span) -> Span:
        """Dollars for so many hours: the low price for few hours up to the high price for many."""
        middle = (self.low + self.high) / 2
        return Span(gpu_hours.low * self.low, gpu_hours.middle * middle, gpu_hours.high * self.high)


def price_of(gpu: GPU | None, asked: tuple[float, float] | None) -> Price | None:
    """The price that was given, else the one that was noted for the GPU."""
    if asked is not None:
        return Price(*asked, source="as given")
    if gpu is None or gpu.price is None:
        return None
    return Price(*gpu.price, source=f"noted {gpu.noted}")


def per_hour(text: str) -> tuple[float, float]:
    """`2.50`, or a range `1.50-3.50`, in dollars."""
    low, dash, high = text.partition("-") if not text.startswith("-") else (text, "", "")
    first = amount(low)
    last = amount(high) if dash else first
    if last < first:
        raise argparse.ArgumentTypeError(f"{text!r} ends below its start")
    return first, last


def amount(text: str) -> float:
    """Dollars, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a price: a number of dollars, 0 or more, e.g. 2.50")
    return value
