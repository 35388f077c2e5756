"""Where a run begins that does not begin with its first update: at a checkpoint of another run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fttool.contracts.update import Factor
from fttool.errors import UsageError
from fttool.recipe.loaded import Loaded
from fttool.rundir import checkpoints
from fttool.rundir.checkpoints import Checkpoint
from fttool.rundir.record import Record
from fttool.training.rates import factor_of, stable_phase


def checkpoint_steps(run: Loaded) -> list[int]:
    """Steps of a run's checkpoints, intact or not, in order."""
    return checkpoints.steps(Record(run.path.parent).checkpoints)


def stable_steps(run: Loaded, step: int) -> range:
    """The steps at which a run held its peak, under the schedule by which it wrote the checkpoint of `step`.

    Its next update then has the full rate, see `rates.stable_phase`; empty where the schedule has no such stretch.
    """
    total = _total_steps(run, step)
    return stable_phase(factor_of(run, total), total) if total else range(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a run begins that does not begin with its first update."""

    run: Loaded
    """The other run."""
    checkpoint: Checkpoint

    @property
    def record(self) -> Record:
        """The other run's directory."""
        return Record(self.run.path.parent)

    @property
    def factor(self) -> Factor:
        """The other run's schedule up to the checkpoint."""
        return factor_of(self.run, _total_steps(self.run, self.checkpoint.step))

    def needed(self, loaded: Loaded) -> list[Checkpoint]:
        """The checkpoint, and the best one up to there if the recipe asks for the best at the end."""
        best = self.checkpoint.progress["best_step"]
        if loaded.recipe.evaluation.best is None or best in (None, 0, self.checkpoint.step):
            return [self.checkpoint]
        return [self.checkpoint, intact_checkpoint(self.run, best)]

    def described(self) -> dict[str, Any]:
        """What `lock.json` says of it."""
        return {
            "run": str(self.record.path.resolve()),
            "checkpoint": self.checkpoint.path.name,
            "sha256": checkpoints.seal(self.checkpoint),
        }


def intact_checkpoint(run: Loaded, step: int) -> Checkpoint:
    """A run's checkpoint of `step`; raises `UsageError` where it is not there, or not as it was written."""
    record = Record(run.path.parent)
    checkpoint = checkpoints.intact(record.checkpoints, step)
    if isinstance(checkpoint, str):
        raise UsageError(
            f"'{record.checkpoints}': {checkpoint}", hint=f"there are {checkpoint_names(checkpoint_steps(run))}"
        )
    return checkpoint


def checkpoint_names(steps: list[int]) -> str:
    """Checkpoints by name, for people."""
    return ", ".join(f"{checkpoints.PREFIX}{step}" for step in steps) or "none"


def _total_steps(run: Loaded, step: int) -> int:
    """Updates that a run was to have when it wrote a checkpoint; 0 where that cannot be read."""
    folder = Record(run.path.parent).checkpoints / f"{checkpoints.PREFIX}{step}"
    try:
        return int(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["max_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
