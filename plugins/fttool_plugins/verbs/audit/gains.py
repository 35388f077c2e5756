"""What leaving suspects out gains, measured: pairs of short runs of a small model, with them and without.

Both runs of a pair have one seed, as many updates, and the same rows in the same order, but that in one of them other
rows stand in place of the suspects, which no filter suspects. So what differs is what the suspects do, and not chance.
Both are measured on the same held-out rows, which no filter suspects and which no training row resembles. The
difference of the losses is the gain; over several seeds it has a standard error.

A small model after few updates is not the model that will be trained: it tells what is bad to learn from, and not how
much that matters in the end.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

from fttool.api import Example, FttoolError, UsageError
from fttool.verbs import Loaded, Surveyed, counted, raw_dataset
from fttool_plugins.verbs.audit.counting import prompt_of
from fttool_plugins.verbs.audit.report import Step, Suspects
from fttool_plugins.verbs.audit.steps import steps
from fttool_plugins.verbs.audit.trials import BATCH, MODEL, Rows, Trial

MOST = 2_000
"""Rows that the runs choose from."""
HELD_OUT, HELD_OUT_SHARE = 60, 0.2
"""Rows that are measured on at most, and as a share of those that no filter suspects."""
FEWEST = 10
"""Held-out rows below which nothing is measured."""
ALIKE = 0.8
"""Jaccard similarity of prompts from which on they ask the same."""
NOISE = 2.0
"""Standard errors from which on a gain is told from noise."""

Tried = Callable[[Sequence[Rows], Rows, int], float]
"""Training rows by dataset, held-out rows and a seed → the held-out loss after a short run."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much is spent."""

    updates: int = 30
    seeds: int = 3
    minutes: float = 10.0


def measured(
    loaded: Loaded,
    datasets: Sequence[Surveyed],
    suspects: Sequence[Suspects],
    bounds: Bounds,
    say: Callable[[str], None],
) -> tuple[list[Step], str]:
    """The steps in the order of their gain, and in words by what they are in order."""
    pool = Pool.of(loaded, datasets, suspects)
    with TemporaryDirectory(prefix="fttool-audit-") as folder:
        trial = Trial(loaded, datasets, pool.place, bounds.updates, Path(folder))
        gains = pairs(pool, suspects, trial, bounds, say)
    made = [_with_gain(step, gains) for step in steps(suspects)]
    how = f"by measured gain: held-out loss of {MODEL} without these rows against that with them, after "
    how += f"{counted(bounds.updates, 'update')} of {BATCH} rows, on {len(pool.held_out)} rows that no filter suspects"
    return sorted(made, key=_rank), how


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The rows that runs learn from, by dataset, and those that they are measured on."""

    train: Sequence[Rows]
    held_out: Rows
    place: int
    """The dataset of the held-out rows, as an index: all are of one, which has one format."""
    bad: Collection[str]
    """Origins of what any filter suspects."""

    @classmethod
    def of(cls, loaded: Loaded, datasets: Sequence[Surveyed], suspects: Sequence[Suspects]) -> Pool:
        """A sample of the rows by the seed; `UsageError` where there are too few to measure on."""
        train = [one for one in datasets if one.part == "train"]
        bad = frozenset[str]().union(*(one.origins for one in suspects))
        every = [(place, example) for place, one in enumerate(train) for example in one.examples]
        chosen = random.Random(loaded.recipe.run.seed).sample(every, min(MOST, len(every)))
        place = max(range(len(train)), key=lambda index: len(train[index].examples))
        clean = [example for index, example in chosen if index == place and example.origin not in bad]
        held = clean[: min(HELD_OUT, int(HELD_OUT_SHARE * len(clean)))]
        if len(held) < FEWEST:
            message = f"too few rows to measure on: {len(held)} of the {len(clean):,} rows that no filter suspects"
            raise UsageError(message, hint=f"leave --measure out; it needs {FEWEST}")
        held_names = {example.origin for example in held}
        learned = {example.origin for _, example in chosen} - _like(held, [example for _, example in chosen])
        raw = [raw_rows(loaded, one, learned | held_names) for one in train]
        return cls(
            train=[[row for row in rows if row[0] in learned] for rows in raw],
            held_out=[row for row in raw[place] if row[0] in held_names],
            place=place,
            bad=bad,
        )

    def chosen(self, count: int, seed: int) -> list[Rows]:
        """So many rows by the seed, or all where there are fewer."""
        every = [(place, row) for place, rows in enumerate(self.train) for row in rows]
        taken = random.Random(seed).sample(every, min(count, len(every)))
        return [[row for index, row in taken if index == place] for place in range(len(self.train))]

    def without(self, chosen: Sequence[Rows], origins: Collection[str], seed: int) -> list[Rows]:
        """The same rows with others, which nobody suspects, in place of some; rows stay where they are."""
        rng, made = random.Random(seed), list[Rows]()
        for place, rows in enumerate(chosen):
            taken = {origin for origin, _ in rows}
            clean = [row for row in self.train[place] if row[0] not in self.bad]
            spare = [row for row in clean if row[0] not in taken]
            rng.shuffle(spare)
            others = iter([*spare, *(rng.choice(clean) for _ in rows if clean)])
            replaced = [next(others, None) if row[0] in origins else row for row in rows]
            made.append([row for row in replaced if row is not None])
        return made


def _like(held: Sequence[Example], others: Sequence[Example]) -> set[str]:
    """Origins of the held-out rows and of those that ask almost the same: neither run learns them."""
    from fttool_plugins.filter.minhash import near_duplicates

    asked = [prompt_of(example) or example.answer() for example in (*held, *others)]
    ranks = [0] * len(held) + [1] * len(others)
    first = near_duplicates(asked, ALIKE, 5, 0, ranks=ranks)[len(held) :]
    alike = {one.origin for one, place in zip(others, first, strict=True) if place is not None and place < len(held)}
    return alike | {one.origin for one in held}


def raw_rows(loaded: Loaded, dataset: Surveyed, origins: Collection[str]) -> Rows:
    """Some rows as their file has them."""
    return [(origin, row) for origin, row in raw_dataset(loaded, dataset.place) if origin in origins]


def pairs(
    pool: Pool, suspects: Sequence[Suspects], tried: Tried, bounds: Bounds, say: Callable[[str], None]
) -> Mapping[str, Sequence[float]]:
    """Gains by filter, one a seed: the loss of a run with its suspects less that of one without them.

    The first pairs of all filters come before the second ones, so that each has one where time runs out.
    """
    gains: dict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + 60 * bounds.minutes
    for seed in range(bounds.seeds):
        chosen = pool.chosen(bounds.updates * BATCH, seed)
        here = {origin for rows in chosen for origin, _ in rows}
        kinds = [one for one in suspects if one.origins & here]
        if not kinds or time.monotonic() > end:
            break
        say(f"seed {seed + 1} of {bounds.seeds}: all rows")
        whole = tried(chosen, pool.held_out, seed)
        for one in kinds:
            if time.monotonic() > end:
                break
            say(f"seed {seed + 1} of {bounds.seeds}: without what {one.filter} suspects")
            with suppress(FttoolError):  # where nothing is left of the rows there is no gain to tell
                gain = whole - tried(pool.without(chosen, one.origins, seed), pool.held_out, seed)
                gains[one.filter].append(gain)
    return gains


def _with_gain(step: Step, gains: Mapping[str, Sequence[float]]) -> Step:
    found = gains.get(step.filter, ())
    if not found:
        return replace(step, verdict="not measured: none of them was among the rows of a run, or time was up")
    gain = mean(found)
    if len(found) == 1:
        direction = "lower" if gain > 0 else "higher"
        verdict = f"held-out loss {direction} by {abs(gain):.3f} without them, in one pair of runs: noise unknown"
        return replace(step, gain=gain, verdict=verdict)
    made = replace(step, gain=gain, noise=stdev(found) / math.sqrt(len(found)))
    amount = f"{abs(gain):.3f} ± {made.noise:.3f}"
    if not _told(made):
        return replace(made, verdict=f"not told from noise: held-out loss {gain:+.3f} ± {made.noise:.3f} with them")
    if gain > 0:
        return replace(made, verdict=f"held-out loss lower by {amount} without them")
    return replace(made, verdict=f"held-out loss higher by {amount} without them", do="keep them")


def _told(step: Step) -> bool:
    """True for a gain, or a loss, that is told from noise."""
    return step.gain is not None and step.noise is not None and abs(step.gain) > NOISE * step.noise


def _rank(step: Step) -> tuple[int, float, int]:
    """Told gains first, the greatest before the others; then what is not told from noise; what is to be kept last."""
    gain = step.gain or 0.0
    place = (0 if gain > 0 else 2) if _told(step) or (step.gain is not None and step.noise is None) else 1
    return place, -gain, -step.rows
