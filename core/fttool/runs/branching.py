"""A run that begins with another run's checkpoint: what `fttool decay` is made of, and other verbs may be.

The new run has a directory of its own. Its recipe is the other's as resolved, with the keys that a verb overrides; its
checkpoint is the other's, and from there it goes on as a resumed run does. So it is refused where resuming is, and also
where an update up to the checkpoint had another rate than the new recipe gives it: what comes out is the run that would
have been planned like this from the start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fttool.contracts.update import Factor, ScheduleContext
from fttool.errors import UsageError
from fttool.recipe.reading import Loaded, load
from fttool.recipe.toml import format_value
from fttool.runs.joining import must_launch
from fttool.runs.record import Record
from fttool.runs.screen import Screen, choose, reporting
from fttool.runs.stopping import stoppable
from fttool.training import checkpoints
from fttool.training.checkpoints import Checkpoint
from fttool.training.rates import stable_phase


def branch(
    run: Loaded,
    step: int,
    overrides: Mapping[str, Any],
    *,
    more: Sequence[str] = (),
    words: Sequence[str] = (),
    quiet: bool = False,
    as_json: bool = False,
    trusts: bool = False,
) -> int:
    """Run what begins with a checkpoint of `run` (from `load_run`), under its recipe with `overrides`.

    Those are values by dotted key; `run.name` must be among them. `more` are what `--set` takes. The new directory lies
    beside the other one. Where it takes several processes, each of them is started by `fttool WORDS`, the verb's own
    command line, and comes here again. Whoever wrote the checkpoint is trusted where the user `trusts` them.
    """
    screen = choose(quiet=quiet, as_json=as_json)
    with reporting(screen), stoppable():
        folder = run.path.parent if run.path.parent.name not in ("", "..") else run.path.parent.resolve()
        keys = {"run.output": str(folder.parent), **overrides}
        _refuse_decided(more, keys)
        mine = [f"{key}={format_value(value)}" for key, value in keys.items()]
        loaded = load(run.path, [*more, *mine], run.plugins)
        # The recipe that the new directory will hold: its paths are absolute, and by it an interrupted run goes on.
        own = folder.parent / loaded.name / "recipe.resolved.toml"
        loaded = replace(loaded, path=own, overrides=())
        start = Start(run=run, checkpoint=_whole(run, step))
        if must_launch(loaded):
            flags = ["--quiet"] * quiet + ["--json"] * as_json + ["--trust-checkpoint"] * trusts
            return _launched(words, loaded, screen, flags)

        from fttool.runs.run import run as begin
        from fttool.runs.worker import signed_in

        with signed_in():
            return begin(loaded, screen, start=start, trusts=trusts)


def _refuse_decided(more: Sequence[str], keys: Mapping[str, Any]) -> None:
    """Raise `UsageError` where `--set` speaks of what the branch decides."""
    for key in (one.partition("=")[0].strip() for one in more):
        if any(f"{key}.".startswith(f"{own}.") or f"{own}.".startswith(f"{key}.") for own in keys):
            raise UsageError(f"--set {key} has no say here", hint="--help shows what does")


def _launched(words: Sequence[str], loaded: Loaded, screen: Screen, flags: Sequence[str]) -> int:
    nodes = loaded.recipe.sharding.launch.nodes
    if nodes > 1:
        hint = "with --set sharding.nodes=1 its processes are all on this one"
        raise UsageError(f"the run is for {nodes} machines, and a run branches off on one", hint=hint)
    from fttool.runs.launching import launch
    from fttool.runs.nodes import Nodes

    return launch(words, loaded, screen, Nodes(), going_on=["run", str(loaded.path), "--resume", *flags])


def checkpoint_steps(run: Loaded) -> list[int]:
    """Steps of a run's checkpoints, whole or not, in order."""
    return checkpoints.steps(Record(run.path.parent).checkpoints)


def stable_steps(run: Loaded, step: int) -> range:
    """The steps at which a run held its peak, under the schedule by which it wrote the checkpoint of `step`.

    Its next update then has the full rate, see `rates.stable_phase`; empty where the schedule has no such stretch.
    """
    total = _total_steps(run, step)
    return stable_phase(_factor(run, total), total) if total else range(0)


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
        return _factor(self.run, _total_steps(self.run, self.checkpoint.step))

    def needed(self, loaded: Loaded) -> list[Checkpoint]:
        """The checkpoint, and the best one up to there if the recipe asks for the best at the end."""
        best = self.checkpoint.progress["best_step"]
        if loaded.recipe.evaluation.best is None or best in (None, 0, self.checkpoint.step):
            return [self.checkpoint]
        return [self.checkpoint, _whole(self.run, best)]

    def described(self) -> dict[str, Any]:
        """What `lock.json` says of it."""
        return {
            "run": str(self.record.path.resolve()),
            "checkpoint": self.checkpoint.path.name,
            "sha256": checkpoints.seal(self.checkpoint),
        }


def _whole(run: Loaded, step: int) -> Checkpoint:
    record = Record(run.path.parent)
    found = checkpoints.whole(record.checkpoints, step)
    if isinstance(found, str):
        raise UsageError(f"'{record.checkpoints}': {found}", hint=f"there are {named(checkpoint_steps(run))}")
    return found


def named(steps: list[int]) -> str:
    """Checkpoints by name, for people."""
    return ", ".join(f"{checkpoints.PREFIX}{step}" for step in steps) or "none"


def _total_steps(run: Loaded, step: int) -> int:
    """Updates that a run was to have when it wrote a checkpoint; 0 where that cannot be read."""
    folder = Record(run.path.parent).checkpoints / f"{checkpoints.PREFIX}{step}"
    try:
        return int(json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["max_steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _factor(run: Loaded, total: int) -> Factor:
    return run.recipe.schedule.build(ScheduleContext(total_steps=total, lr=run.recipe.optimizer.lr))
