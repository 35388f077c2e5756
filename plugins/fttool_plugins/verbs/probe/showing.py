"""What is shown: a line while it is measured, then a table with the recommendation, or all of it for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from fttool.verbs import Loaded, aligned
from fttool_plugins.verbs.probe.measuring import WARM_UP, Outcome
from fttool_plugins.verbs.probe.recommending import best, fastest, lines, why

GIB = 2**30


def in_words(outcome: Outcome) -> str:
    """An outcome in one line."""
    if outcome.status != "measured":
        return outcome.reason
    return f"{outcome.tokens_per_second:,.0f} tokens/s, {outcome.peak_memory_bytes / GIB:.2f} GiB per process"


def screen(loaded: Loaded, updates: int, outcomes: Sequence[Outcome]) -> list[str]:
    """The table, then the recommendation with what to write into the recipe."""
    width = min(shutil.get_terminal_size().columns, 110)
    chosen = best(outcomes)
    rows = [("sharding", "micro-batch", "accumulation", "tokens/s", "of the best", "GiB per process")]
    rows += [_row(outcome, fastest(outcomes)) for outcome in outcomes]
    shown = aligned(rows)
    for place, outcome in enumerate(outcomes, start=1):
        if outcome.status != "measured":
            start = shown[place]
            shown[place] = f"{start}  {textwrap.shorten(outcome.reason, max(20, width - len(start) - 2))}"
        elif outcome is chosen:
            shown[place] += "  ←"
    how = f"{updates} update{'s' if updates > 1 else ''} of {loaded.recipe.global_batch} rows, after one to warm up"
    text = [f"{loaded.name}: {how}", "", *(f"  {line}" for line in shown), ""]
    if any(outcome.status == "measured" and not outcome.on_gpu for outcome in outcomes):
        note = "There is no GPU: memory is what was resident, libraries and the loading of the model included."
        text += [*textwrap.wrap(note, width), ""]
    text += textwrap.wrap(why(outcomes), width)
    if chosen is not None and _as_it_is(loaded, chosen):
        text += ["The recipe has it so."]
    elif chosen is not None:
        written = lines(chosen, loaded.recipe.global_batch)
        text += ["", *(f"  {line}".rstrip() for line in written.splitlines())]
    return text


def _as_it_is(loaded: Loaded, chosen: Outcome) -> bool:
    """True where the recipe need not be changed."""
    return chosen.candidate.own and chosen.candidate.micro_batch == loaded.recipe.run.micro_batch


def _row(outcome: Outcome, first: Outcome | None) -> tuple[str, ...]:
    candidate = outcome.candidate
    start = (candidate.sharding, str(candidate.micro_batch), str(candidate.accumulation))
    if first is None or outcome.status != "measured":
        return (*start, "", "", "")
    return (
        *start,
        f"{outcome.tokens_per_second:,.0f}",
        f"{outcome.tokens_per_second / first.tokens_per_second:.0%}",
        f"{outcome.peak_memory_bytes / GIB:.2f}",
    )


def as_json(loaded: Loaded, updates: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All of it; `recommendation.candidate` is a place in `candidates`."""
    chosen, first = best(outcomes), fastest(outcomes)

    def described(outcome: Outcome) -> dict[str, Any]:
        candidate, measured = outcome.candidate, outcome.status == "measured"
        return {
            "sharding": candidate.sharding,
            "options": dict(candidate.options),
            "micro_batch": candidate.micro_batch,
            "accumulation": candidate.accumulation,
            "status": outcome.status,
            "exit_code": int(outcome.exit_code),
            "reason": outcome.reason or None,
            "tokens_per_second": outcome.tokens_per_second if measured else None,
            "of_the_best": outcome.tokens_per_second / first.tokens_per_second if measured and first else None,
            "updates": list(outcome.speeds),
            "peak_memory_bytes": outcome.peak_memory_bytes if measured else None,
            "ranks": list(outcome.peaks),
            "memory": ("gpu" if outcome.on_gpu else "resident") if measured else None,
        }

    return {
        "recipe": str(loaded.path),
        "name": loaded.name,
        "global_batch": loaded.recipe.global_batch,
        "updates": updates,
        "warm_up": WARM_UP,
        "candidates": [described(outcome) for outcome in outcomes],
        "recommendation": None
        if chosen is None
        else {
            "candidate": outcomes.index(chosen),
            "why": why(outcomes),
            "recipe": lines(chosen, loaded.recipe.global_batch),
        },
    }
