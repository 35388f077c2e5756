"""What to do next: a step for each filter that suspects rows, by what leaving them out has gained, or by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fttool_plugins.verbs.audit.report import Step, Suspects

BY_COUNT = "by number of rows: what leaving them out gains is not measured (--measure does)"


def steps(suspects: Sequence[Suspects]) -> list[Step]:
    """Not measured: the most rows first."""
    return [Step(filter=one.filter, rows=one.rows, do=advice(one)) for one in suspects if one.rows]


def advice(suspects: Suspects) -> str:
    """What to write into the recipe."""
    return f'look at them, then [[filters]] name = "{suspects.filter}"'


def as_words(counts: Mapping[str, int], most: int = 3) -> str:
    """Counts by what they count, the first ones."""
    shown = [f"{what} ({count:,})" for what, count in list(counts.items())[:most]]
    more = len(counts) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
