"""The recommendation: of what gains as much as the best, within noise, what forgets least and costs least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from fttool_plugins.verbs.decide.curve import outlook

if TYPE_CHECKING:
    from fttool_plugins.verbs.decide.measuring import Findings

TIE = 0.05
"""Of the best gain: what is nearer than that is taken for as good, as two seeds know little of their noise."""
NOISE = 2.0
"""Standard errors within which two modes are as good as each other."""
WORTH = 0.02
"""Of the gain so far: what twice the rows bring at least to be worth having."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A mode over its seeds."""

    name: str
    gain: float
    noise: float | None
    """Standard error of the gain; None where one run does not tell it."""
    forgotten: float | None
    seconds: float
    """Of the updates of a run on all rows."""


def summaries(found: Findings) -> list[Summary]:
    """Of each mode, in the order in which they were tried."""
    listed: list[Summary] = []
    for name, outcomes in found.modes.items():
        gains = [found.gain(one) for one in outcomes]
        forgotten = [one.forgotten for one in outcomes if one.forgotten is not None]
        listed.append(
            Summary(
                name=name,
                gain=fmean(gains),
                noise=_noise(found, gains, [one.after for one in outcomes]),
                forgotten=fmean(forgotten) if forgotten else None,
                seconds=fmean(one.seconds for one in outcomes) * found.updates,
            )
        )
    return listed


def _noise(found: Findings, gains: Sequence[float], scores: Sequence[float]) -> float | None:
    """By the seeds, and for a share of rows by their number too, whichever is more."""
    of_seeds = stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
    if found.metric != "accuracy":
        return of_seeds
    share = min(max(fmean(scores), 0.0), 1.0)
    of_rows = math.sqrt(share * (1 - share) / max(1, found.measured_on))
    return max(of_rows, of_seeds or 0.0)


def as_good(found: Findings) -> list[Summary]:
    """The modes that gain as much as the best one, within noise."""
    listed = summaries(found)
    first = max(listed, key=lambda one: (one.gain, -one.seconds))

    def near(one: Summary) -> bool:
        noise = math.hypot(one.noise or 0.0, first.noise or 0.0)
        return one.gain >= first.gain - max(NOISE * noise, TIE * abs(first.gain))

    return [one for one in listed if near(one)]


def best(found: Findings) -> Summary:
    """Of those the one that forgets least, where that was measured, else the cheapest."""
    near = as_good(found)
    if all(one.forgotten is not None for one in near):
        return min(near, key=lambda one: (max(0.0, one.forgotten or 0.0), one.seconds))
    return min(near, key=lambda one: one.seconds)


def recommendation(found: Findings) -> list[str]:
    """In sentences, with the reason."""
    chosen, shown = best(found), found.shown_gain
    if chosen.gain <= 0 and (shown is None or shown <= 0):
        sentences = [f"Do neither yet: nothing was seen to make {found.metric} better. Look at the rows: fttool audit."]
    elif found.prompted is not None and shown is not None and shown >= chosen.gain:
        sentences = [
            f"Prompt: {found.prompted.shots} examples in the prompt {_change(found, shown, 'make')}, "
            f"and fine-tuning on {found.mode_rows:,} rows ({chosen.name}) {_change(found, chosen.gain)}."
        ]
    else:
        sentences = [_tune(found, chosen, shown)]
    sentences += _more_rows(found)
    if found.commonest is not None and all(one.after <= found.commonest for one in found.modes[chosen.name]):
        sentences.append(f"It is no better than always saying the commonest class ({found.commonest:.4f}).")
    return sentences


def _tune(found: Findings, chosen: Summary, shown: float | None) -> str:
    near = [one for one in as_good(found) if one.name != chosen.name]
    sentence = f'Fine-tune with freezing.name = "{chosen.name}": on {found.mode_rows:,} rows it '
    sentence += _change(found, chosen.gain)
    if near:
        forgets = all(one.forgotten is not None for one in [chosen, *near])
        why = "forgets least" if forgets else "costs least"
        sentence += f"; {_listed([one.name for one in near])} gained about as much, and it {why}"
    elif len(found.modes) > 1:
        sentence += ", more than the other ways"
    else:
        sentence += "; it is the only way that was measured"
    if shown is not None:
        sentence += f". Examples in the prompt {_change(found, shown, 'make')}"
    return f"{sentence}."


def _change(found: Findings, gain: float, verb: str = "makes") -> str:
    """`makes loss better by 0.1234`."""
    return f"{verb} {found.metric} {'better' if gain >= 0 else 'worse'} by {abs(gain):.4f}"


def _more_rows(found: Findings) -> list[str]:
    ahead = outlook(found.curve)
    if ahead is None or not found.curve:
        return []
    sign = 1 if found.higher else -1
    brings, so_far = sign * ahead.brings, abs(found.curve[-1].score - found.curve[0].score)
    outcome = (
        "more rows are worth having"
        if brings > WORTH * max(so_far, abs(best(found).gain))
        else ("more of such rows would hardly help")
    )
    return [
        f"With all {found.rows:,} rows {found.metric} should be about {ahead.all:.4f}, with twice as many "
        f"{ahead.twice:.4f}: {outcome}."
    ]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
