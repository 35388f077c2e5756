"""A run that begins with another run's checkpoint: what `fttool decay` is made of, and other verbs may be.

The new run has a directory of its own. Its recipe is the other's as resolved, with the keys that a verb overrides; its
checkpoint is the other's, and from there it goes on as a resumed run does. So it is refused where resuming is, and also
where an update up to the checkpoint had another rate than the new recipe gives it: what comes out is the run that would
have been planned like this from the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fttool.errors import UsageError
from fttool.launch.joining import must_launch
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.recipe.toml import format_value
from fttool.runs.start import Start, intact_checkpoint
from fttool.runs.stopping import stoppable
from fttool.watch.screen import Screen, choose, reporting


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
        start = Start(run=run, checkpoint=intact_checkpoint(run, step))
        if must_launch(loaded):
            flags = ["--quiet"] * quiet + ["--json"] * as_json + ["--trust-checkpoint"] * trusts
            return _launched(words, loaded, screen, flags)

        from fttool.launch.worker import signed_in
        from fttool.show.running import run_shown

        with signed_in():
            return run_shown(loaded, screen, start=start, trusts=trusts).code


def _refuse_decided(more: Sequence[str], keys: Mapping[str, Any]) -> None:
    """Raise `UsageError` where `--set` speaks of what the branch decides."""
    for key in (override.partition("=")[0].strip() for override in more):
        if any(f"{key}.".startswith(f"{own}.") or f"{own}.".startswith(f"{key}.") for own in keys):
            raise UsageError(f"--set {key} has no effect here", hint="--help lists what can be set")


def _launched(words: Sequence[str], loaded: Loaded, screen: Screen, flags: Sequence[str]) -> int:
    nodes = loaded.recipe.sharding.launch.nodes
    if nodes > 1:
        hint = "with --set sharding.nodes=1 its processes are all on this one"
        raise UsageError(f"the run is for {nodes} machines, and a run branches off on one", hint=hint)
    from fttool.launch.launching import launch
    from fttool.launch.nodes import Nodes

    return launch(words, loaded, screen, Nodes(), going_on=["run", str(loaded.path), "--resume", *flags])
