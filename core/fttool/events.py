"""What happens in a run, in one form: a line of `events.jsonl` and of `fttool run --json`, and what observers are told.

The kind of an event is its class's name: `CheckpointSaved` is written `{"event": "checkpoint_saved", "step": 100}`.
`Reported` events are for whoever follows the run on standard output; `events.jsonl` does not repeat them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run."""

    text: str = ""
    """A sentence for people, where they should know."""

    @classmethod
    def kind(cls) -> str:
        """The class's name in lower case, with underscores."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def described(self) -> dict[str, Any]:
        """Kind and fields as they are written, under `event` and their names; `text` comes last.

        What is an empty text by default is left out where it is one.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["text"] = values.pop("text")
        optional = {field.name for field in fields(self) if field.default == ""}
        written = {name: value for name, value in values.items() if value or name not in optional}
        return {"event": self.kind(), **written}

    def stamped(self) -> dict[str, Any]:
        """The same with the present time, UTC."""
        return {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **self.described()}


# -- a run begins --


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The run directory of a new run is made."""

    total_steps: int


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """A run goes on after update `step`; 0: at its beginning."""

    step: int
    total_steps: int


@dataclass(frozen=True, kw_only=True)
class Branched(Event):
    """A new run begins after update `step` of another one."""

    run: str
    """That one's run directory."""
    step: int
    total_steps: int


@dataclass(frozen=True, kw_only=True)
class Restarted(Event):
    """The launcher has started all processes again."""

    number: int
    """How many times so far."""
    why: str
    how: str


# -- what a resumed run found --


@dataclass(frozen=True, kw_only=True)
class LinesDamaged(Event):
    """Lines of `metrics.jsonl` or `events.jsonl` could not be read, and were moved to a file beside it."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRejected(Event):
    """A checkpoint is damaged or incomplete, and was skipped."""


@dataclass(frozen=True, kw_only=True)
class LibraryChanged(Event):
    """Python or a library has another version than when the run was begun."""


@dataclass(frozen=True, kw_only=True)
class CodeChanged(Event):
    """The files of a plugin are not those with which the run was begun."""


@dataclass(frozen=True, kw_only=True)
class ProcessesChanged(Event):
    """The checkpoint was saved by another number of processes."""


@dataclass(frozen=True, kw_only=True)
class StopsLater(Event):
    """The run had stopped early, and goes on under another `evaluation.early_stopping`."""


@dataclass(frozen=True, kw_only=True)
class SetAside(Event):
    """A run that is made longer goes on from an earlier update; what it wrote after that was moved."""

    step: int
    folder: str
    """In the run directory."""


@dataclass(frozen=True, kw_only=True)
class ModelRemade(Event):
    """The final model was missing or damaged, and is made again from a checkpoint."""

    step: int
    lost: Sequence[str]
    """The files, by their path in the run directory."""


# -- rows and model --


@dataclass(frozen=True, kw_only=True)
class Noted(Event):
    """What the task or a strategy has to say of the model."""


@dataclass(frozen=True, kw_only=True)
class RowsNoted(Event):
    """What was noticed of the rows: columns that are not read, classes that are rare …"""


@dataclass(frozen=True, kw_only=True)
class RowRemarks(Event):
    """What masking says of the rows that are learned from."""

    rows: Mapping[str, int]
    """Remark → number of rows."""


@dataclass(frozen=True, kw_only=True)
class ConfigSetBack(Event):
    """A library has changed the model's configuration; the changes were undone."""

    by: str
    changes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class TemplateDifference(Event):
    """Inference would see other tokens than training does, of the rows that were tried."""

    rows: int
    """Rows that were tried."""
    last_turn_differs: int
    earlier_turns_differ: int
    dated: int
    """Rows into which the template writes today's date."""
    first: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Proof(Event):
    """What was compared on the model before its first update: that it is as its batches assume."""

    comparisons: Mapping[str, Mapping[str, Any]]
    """Name → `difference`, with `allowed` and `holds` where it has a limit; `shown`: false where it says nothing."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FeaturesKept(Event):
    """The base model has run once over all rows, and will not again."""

    memory_bytes: int
    file_bytes: int
    difference: float
    """Largest relative difference between a loss from kept features and one from the whole model."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FeaturesNotKept(Event):
    """The base model never trains, and still runs in every update."""

    reason: str


# -- updates --


@dataclass(frozen=True, kw_only=True)
class OutOfMemory(Event):
    """Memory ran out on `was` sequences at once; the same update is made `now` at a time."""

    step: int
    use: str
    """`training`, `evaluation` or `features`."""
    was: int
    now: int


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is complete under its final name."""

    step: int


@dataclass(frozen=True, kw_only=True)
class ObserverFailed(Event):
    """An observer has raised, and is switched off."""

    plugin: str
    hook: str
    error: str


@dataclass(frozen=True, kw_only=True)
class TrackerFailed(Event):
    """A tracker has raised, and is switched off."""

    tracker: str
    during: str
    """`begin`, `log` or `end`."""
    error: str


@dataclass(frozen=True, kw_only=True)
class StoppedEarly(Event):
    """The evaluations have not improved for as long as `evaluation.early_stopping` waits."""

    step: int
    best_step: int | None


# -- a run ends --


@dataclass(frozen=True, kw_only=True)
class Diverged(Event):
    """A loss, a gradient or a weight is not finite."""

    step: int
    what: str
    rows: Sequence[str]
    """`file:line` of those in the update."""


@dataclass(frozen=True, kw_only=True)
class SavedDifference(Event):
    """What was saved, loaded again, makes other tokens of the rows than training has seen."""


@dataclass(frozen=True, kw_only=True)
class OutputUnread(Event):
    """Nobody reads standard output or error any more."""

    stream: str
    since: str
    """When that was noticed."""


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The last line: `summary.json` is written."""

    status: str
    """`finished`, `interrupted`, `diverged` or `failed`."""
    step: int


# -- reported as it happens, and recorded elsewhere or not at all --


@dataclass(frozen=True, kw_only=True)
class Reported(Event):
    """What `--json` tells and `events.jsonl` does not repeat."""


@dataclass(frozen=True, kw_only=True)
class Stage(Reported):
    """A step of the preparation begins."""


@dataclass(frozen=True, kw_only=True)
class Note(Reported):
    """Something that the user should know."""

    hint: str = ""
    """What to do about it; left out where there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Logged(Reported):
    """A line was written to `metrics.jsonl`; here its values stand beside the kind."""

    values: Mapping[str, Any]

    @override
    def described(self) -> dict[str, Any]:
        """Kind and values."""
        return {"event": self.kind(), **self.values}


@dataclass(frozen=True, kw_only=True)
class Summary(Reported):
    """The run has ended by itself or by a signal."""

    summary: Mapping[str, Any]
    """As `summary.json` has it."""


@dataclass(frozen=True, kw_only=True)
class Failed(Reported):
    """The run was refused, or has ended with an error."""

    exit_code: int
    problems: Sequence[Mapping[str, str]]
    """`message`, `where` and `hint` of each."""
