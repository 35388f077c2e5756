"""The recommendation: of what is as fast as the fastest, the one that needs the least memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tomli_w

from fttool_plugins.verbs.probe.measuring import Outcome

TIE = 0.05
"""Of the fastest: runs of so few updates do not tell less apart."""


def fastest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Of those that were measured; None where none was."""
    measured = [outcome for outcome in outcomes if outcome.status == "measured"]
    return max(measured, key=lambda outcome: outcome.tokens_per_second, default=None)


def best(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The least memory among those within `TIE` of the fastest; None where none was measured."""
    first = fastest(outcomes)
    if first is None:
        return None
    threshold = (1 - TIE) * first.tokens_per_second
    near = [outcome for outcome in outcomes if outcome.status == "measured" and outcome.tokens_per_second >= threshold]
    return min(near, key=lambda outcome: (outcome.peak_memory_bytes, -outcome.tokens_per_second))


def why(outcomes: Sequence[Outcome]) -> str:
    """The recommendation in a sentence or two."""
    chosen, first = best(outcomes), fastest(outcomes)
    if chosen is None or first is None:
        return "Nothing could be measured."
    sentence = f"Take {chosen.candidate}"
    if chosen is first:
        sentence += ": the fastest"
    else:
        gain = first.tokens_per_second / chosen.tokens_per_second - 1
        faster = f"{gain:.0%}" if gain >= 0.01 else "less than 1%"
        sentence += (
            f": of those within {TIE:.0%} of the fastest it needs the least memory. {first.candidate} was "
            f"{faster} faster, which so few updates hardly tell apart"
        )
    if len([outcome for outcome in outcomes if outcome.status == "measured"]) == 1:
        sentence = f"Only {chosen.candidate} was measured"
    return f"{sentence}."


def lines(chosen: Outcome, global_batch: int) -> str:
    """What to write into the recipe, as TOML; a sharding that it has already is left out."""
    candidate = chosen.candidate
    tables: dict[str, Any] = {"run": {"micro_batch": candidate.micro_batch, "global_batch": global_batch}}
    if not candidate.own:
        tables["sharding"] = dict(candidate.options)
    return tomli_w.dumps(tables).strip()
