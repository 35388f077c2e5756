"""A run that has not begun: its recipe with changes, what it would train and how, and where.

Nothing here imports torch before a model is asked for, so a verb's help is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.sharding import Numerics, PrecisionContext, ShardingContext, ShardingPlan
from fttool.machine import quiet_libraries
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.recipe.toml import format_value
from fttool.rundir.record import Record
from fttool.watch.screen import choose
from fttool.world import World

if TYPE_CHECKING:
    from fttool.runs.stages.loop import Prepared


def with_overrides(loaded: Loaded, changes: Mapping[str, Any]) -> Loaded:
    """The recipe with further overrides, values by dotted key; `RecipeError` where they do not go together.

    Its `overrides` are those of `loaded` and the new ones, as `--set` takes them: another command line can repeat them.
    """
    more = [f"{key}={format_value(value)}" for key, value in changes.items()]
    return load(loaded.path, [*loaded.overrides, *more], loaded.plugins)


def prepare(loaded: Loaded, folder: Path, *, quiet: bool = False) -> Prepared:
    """A run up to its first update: rows, model, what trains, and the trainer; nothing is written.

    What its strategies write into the run directory, once they are called, goes to `folder`.
    """
    from fttool.runs.preparing import prepare_run
    from fttool.watch.watch import Watch

    watch = Watch(loaded, Record(folder), choose(quiet=quiet, as_json=False), on=False)
    with explained(loaded):
        return prepare_run(loaded, folder, watch, World(size=loaded.recipe.sharding.world_size))


def plan_for_gpus(loaded: Loaded, *, native_bf16: bool = True) -> tuple[ShardingPlan, Numerics]:
    """What sharding and precision yield for a run on GPUs, which this machine need not have.

    No model is loaded for it, so sharding is told of no layers' classes. What libraries print goes to stderr.
    """
    import torch

    on, recipe = torch.device("cuda"), loaded.recipe
    quiet_libraries(network=loaded.needs_network)
    with explained(loaded), redirect_stdout(sys.stderr):
        numerics = recipe.precision.build(PrecisionContext(device=on, native_bf16=native_bf16, **loaded.common))
        return recipe.sharding.build(ShardingContext(device=on, numerics=numerics, **loaded.common)), numerics
