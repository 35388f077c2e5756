"""A run that is over, prepared once more: which rows an update saw, and what the model of that time says of each.

The order of rows is a pure function of seed and epoch, so the rows of each update follow from the run's own recipe and
files; nothing of them is recorded. Where those have changed since, the rows would be others, and it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.task import Predictions
from fttool.errors import DataError, ModelError, UsageError
from fttool.recipe.loaded import Loaded
from fttool.rundir import checkpoints
from fttool.rundir.code import code_changes
from fttool.rundir.record import Record, lock
from fttool.rundir.writer_lock import in_use
from fttool.verbs.finished import lock_of
from fttool.verbs.planning import prepare, with_overrides

if TYPE_CHECKING:
    from torch.nn import Parameter

    from fttool.runs.stages.loop import Prepared

ALONE: dict[str, Any] = {"sharding": "none", "tracking.to": [], "plugins.observe": []}
"""What is set otherwise, as one process looks at the run and nobody is told: none of it decides which rows an update
has, for which `run.global_batch` stands in every resolved recipe."""


@dataclass(kw_only=True)
class Revisited:
    """A run as `revisit` prepares it."""

    run: Loaded
    """Its recipe, to be looked at in one process."""
    prepared: Prepared
    """It before its first update, with rows, model, micro-batches and what trains."""
    changes: Sequence[str]
    """What of the software is not as it was, in sentences."""
    steps: Sequence[int]
    """Updates after which its weights can be had, in order; 0 is the start."""
    unread: Mapping[int, str]
    """Why those of another checkpoint cannot be had, by its step."""

    def __post_init__(self) -> None:
        self._at = 0

    def rows(self, update: int) -> list[int]:
        """Numbers of the rows that an update, from 1, learned from, in the order of its micro-batches."""
        epoch, place = divmod(update - 1, self.prepared.length.steps_per_epoch)
        loader, size = self.prepared.batching.loader, self.run.recipe.accumulation
        loader.set_epoch(epoch)
        micro_batches = loader.plan[place * size : (place + 1) * size]
        return [row for sequences in micro_batches for group in sequences for row in group]

    def origin(self, row: int) -> str:
        """`file:line` of a row."""
        return self.prepared.rows.learned.origin(row)

    def words(self, row: int) -> tuple[str, str]:
        """A row in words, as its tokens tell: what comes before what is learned first, and from there on; or the text
        and its classes.
        """
        encoded, tokenizer = self.prepared.rows.learned[row], self.prepared.tokenizer
        first = next((place for place, label in enumerate(encoded.labels) if label != -100), len(encoded.labels))
        asked, said = encoded.input_ids[:first], encoded.input_ids[first:]
        before, after = (str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in (asked, said))
        return before, after if encoded.classes is None else ", ".join(encoded.classes)

    def step_before(self, update: int) -> int:
        """Of `steps` the last one before an update."""
        return max(step for step in self.steps if step < update)

    def go_to(self, step: int) -> None:
        """Give the model the weights that it had after so many updates, of `steps`, which can only be gone up."""
        from fttool.training import weights

        if step < self._at:
            raise ValueError(f"the model has gone on to step {self._at}")
        if step > self._at:
            record = Record(self.run.path.parent)
            trained = {name for group in self.prepared.update.groups for name in group.names}
            weights.load(self.prepared.model, trained, record.checkpoints / f"{checkpoints.PREFIX}{step}")
        self._at = step

    def predictions(self, row: int) -> tuple[Predictions, int]:
        """What the model says of a row alone, with the loss that is learned by, and how many items of the loss it has.

        Nothing drops out: of all modules only the model itself, which the task asks, is in training mode.
        """
        from fttool.training.evaluation import model_inputs

        prepared = self.prepared
        prepared.model.eval()
        prepared.model.training = True
        batch = model_inputs(prepared.batching.loader.micro_batch([(row,)]), prepared.device)
        with prepared.trainer.accelerator.autocast():
            return prepared.parts.score(prepared.model, batch), int(prepared.parts.items(batch))

    def trained(self, update: int) -> list[Parameter]:
        """The parameters that train in an update."""
        by_name = dict(self.prepared.model.named_parameters())
        groups = [group for group in self.prepared.update.groups if group.trains(update - 1)]
        return [by_name[name] for group in groups for name in group.names]


def revisit(run: Loaded, folder: Path, *, quiet: bool = False) -> Revisited:
    """Prepare a run (from `load_run`) once more, in one process; nothing is written, but what its strategies write into
    a run directory, once they are called, goes to `folder`.

    Raises:
        UsageError: where it still runs, or its directory is damaged.
        DataError: where its rows are not those that it learned from.
        ModelError: where the model that it started from has changed.
    """
    from fttool.runs.resume import library_changes, refuse_other_plugins, row_hashes, weight_files

    record, locked = Record(run.path.parent), lock_of(run)
    if in_use(record.path):
        hint = "ask again once it has ended; `fttool report` shows how far it is"
        raise UsageError(f"the run '{record.path}' is still running", hint=hint)
    alone = with_overrides(run, ALONE)
    prepared = prepare(alone, folder, quiet=quiet)
    now = lock(alone, [*prepared.rows.sources, *prepared.update.files()], prepared.source.origin)
    before, after = row_hashes(locked), row_hashes(now)
    changed = sorted(table for table in before.keys() | after.keys() if before.get(table) != after.get(table))
    if changed:
        message = f"the rows of {', '.join(changed)} have changed since '{record.path}' learned from them"
        raise DataError(
            message, hint="which rows an update had follows from the files as they were; lock.json names them"
        )
    if weight_files(locked["model"]) != weight_files(now["model"]):
        message = f"the model that '{record.path}' started from has changed since"
        raise ModelError(message, hint="lock.json there has the hashes of its files, or its commit on the hub")
    refuse_other_plugins(locked, now, run)
    steps, unread = _readable(record)
    changes = [*library_changes(locked, now), *code_changes(locked["code"], now["code"])]
    return Revisited(run=alone, prepared=prepared, changes=changes, steps=[0, *steps], unread=unread)


def _readable(record: Record) -> tuple[list[int], dict[int, str]]:
    """Steps whose weights one process can read, and for each other checkpoint a sentence that says why not."""
    from fttool.training import weights

    steps: list[int] = []
    unread: dict[int, str] = {}
    for step in checkpoints.steps(record.checkpoints):
        checkpoint = checkpoints.intact(record.checkpoints, step)
        if isinstance(checkpoint, str):
            unread[step] = checkpoint
        elif not (checkpoint.path / weights.FILE).is_file():
            unread[step] = f"{checkpoint.path.name} is in shards, which only as many processes can read"
        else:
            steps.append(step)
    return steps, unread
