"""Which updates are asked about, and what the rows of each had to do with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fttool.api import UsageError
from fttool.verbs import Revisited, counted, progress
from fttool_plugins.verbs.report.reading import Told
from fttool_plugins.verbs.why.spikes import CLEAR, Spike, worst

if TYPE_CHECKING:
    from fttool_plugins.verbs.why.scoring import Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An update whose rows are scored, and why this one."""

    update: int
    spike: Spike | None
    """None where the user has named it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """An update whose rows have been scored."""

    asked: Asked
    step: int
    """Of the weights that they were scored with; 0 is the start."""
    rows: Sequence[Scored]
    """The worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said of a run."""

    updates: Sequence[Looked]
    """The worst spike first."""
    rows: Sequence[Scored]
    """Of all of them, the worst first."""
    notes: Sequence[str]
    """What must be known to read it."""

    @property
    def worst(self) -> list[Scored]:
        """Each row once, where it was worst: an epoch later it may be in another of these updates."""
        first = {row.row: row for row in reversed(self.rows)}
        return [row for row in self.rows if first[row.row] is row]


def chosen(told: Told, update: int | None, most: int) -> list[Asked]:
    """The update that is asked for, or those of the worst spikes; `UsageError` where the run has made none of them."""
    ended = told.steps_of("diverged")
    made = max([told.past.steps or 0, *ended, *(line["step"] for line in told.metrics)])
    if not made:
        raise UsageError(f"the run '{told.past.path}' has made no update", hint="`fttool report` says how it ended")
    if update is not None:
        if update > made:
            hint = f"name one of 1 to {made}"
            raise UsageError(f"the run '{told.past.path}' has made {counted(made, 'update')}, not {update}", hint=hint)
        return [Asked(update=update, spike=None)]
    spikes = worst(told.metrics, most)
    if ended and all(ended[-1] not in spike.updates for spike in spikes):  # it was never logged
        spikes = [_ending(ended[-1]), *spikes]
    if not spikes:
        hint = "name an update: --update N; with run.log_every = 1 each is logged"
        raise UsageError(f"'{told.past.path}/metrics.jsonl' has no update with a loss", hint=hint)
    found = {update: Asked(update=update, spike=spike) for spike in reversed(spikes) for update in spike.updates}
    return sorted(found.values(), key=lambda asked: (-_distance(asked), asked.update))


def _ending(update: int) -> Spike:
    """The update that ended a run."""
    return Spike(updates=range(update, update + 1), what="loss", value=math.nan, usual=math.nan, distance=math.inf)


def _distance(asked: Asked) -> float:
    return asked.spike.distance if asked.spike is not None else math.inf


def answer(past: Revisited, asked: Sequence[Asked], *, quiet: bool) -> Answer:
    """Score the rows of these updates."""
    from fttool_plugins.verbs.why.scoring import ranked, scored

    screen, looked = progress(quiet=quiet), dict[int, Looked]()
    for one in sorted(asked, key=lambda one: one.update):  # as the weights go on
        step = past.step_before(one.update)
        past.go_to(step)
        rows = scored(past, one.update, lambda rows, at=one.update: screen.track(rows, f"update {at}"))
        looked[one.update] = Looked(asked=one, step=step, rows=rows)
    updates = [looked[one.update] for one in asked]
    return Answer(
        updates=updates,
        rows=ranked(row for one in updates for row in one.rows),
        notes=list(_notes(past, updates)),
    )


def _notes(past: Revisited, updates: Sequence[Looked]) -> list[str]:
    """What must be known to read the answer."""
    spikes = [one.asked.spike for one in updates if one.asked.spike is not None]
    notes: list[str] = []
    if spikes and spikes[0].distance < CLEAR:
        notes.append("no update of this run stands out clearly: what follows may be nothing but chance")
    wide = max((len(spike.updates) for spike in spikes), default=1)
    if wide > 1:
        notes.append(f"a line of metrics.jsonl is about up to {wide} updates, so all of these are looked at")
    for one in updates:
        missed = [why for step, why in past.unread.items() if one.step < step < one.asked.update]
        notes += [why for why in missed if why not in notes]
    far = max(updates, key=lambda one: one.asked.update - one.step)
    behind = far.asked.update - 1 - far.step
    if behind:
        where = f"checkpoint-{far.step}" if far.step else "the start"
        notes.append(
            f"update {far.asked.update} is scored with the weights of {where}, {counted(behind, 'update')} before it; "
            "checkpoints.every and checkpoints.keep decide how near there are some"
        )
    return [*notes, *past.changes]
