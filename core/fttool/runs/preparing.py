"""A run before its first update: rows, model, what trains and how, and the trainer; all loaded and checked."""

from __future__ import annotations

from pathlib import Path

from fttool.recipe.loaded import Loaded
from fttool.runs.stages.loop import Prepared, with_loop
from fttool.runs.stages.model import with_model
from fttool.runs.stages.plan import with_plan
from fttool.runs.stages.rows import with_rows
from fttool.runs.stages.setup import set_up
from fttool.runs.stages.update import with_update
from fttool.watch.watch import Watch
from fttool.world import ALONE, World


def prepare_run(loaded: Loaded, folder: Path, watch: Watch, world: World = ALONE) -> Prepared:
    """Load and check everything, and build the trainer; nothing is written, though `folder` is the run directory."""
    run = set_up(loaded, folder, watch, world)
    return with_loop(with_plan(with_update(with_model(with_rows(run)))))
