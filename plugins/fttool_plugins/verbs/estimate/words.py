"""Figures as people read them."""

from __future__ import annotations

from fttool_plugins.verbs.estimate.price import Span

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `5.1 days`."""
    if seconds < 90:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


def figure(value: float) -> str:
    """With three digits and a prefix: `12.3 T`, to be followed by the unit."""
    power = 0
    while abs(value) >= 999.5 and power < len(PREFIXES) - 1:
        value /= 1000
        power += 1
    return f"{value:.3g} {PREFIXES[power]}"


def hours(span: Span) -> str:
    """`1.2 (0.9–1.5)`; what is below a thousandth is said to be."""
    if span.high < 0.001:
        return "under 0.001"
    return f"{number(span.middle)} ({number(span.low)}–{number(span.high)})"


def number(value: float) -> str:
    """Two or three digits, without an exponent."""
    if value >= 10:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.2g}" if value >= 0.1 else f"{value:.3f}"


def dollars(span: Span) -> str:
    """`$12.50–$20.00`; one figure where both are the same."""
    low, high = (f"${value:,.2f}" if value < 1000 else f"${value:,.0f}" for value in (span.low, span.high))
    return low if low == high else f"{low}–{high}"
