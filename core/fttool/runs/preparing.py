"""A run before its first update: rows, model, what trains and how, and the trainer; all loaded and checked."""

from __future__ import annotations

from fttool.observers import Observers
from fttool.recipe.reading import Loaded
from fttool.runs.record import Record
from fttool.runs.screen import Screen
from fttool.runs.stages.begun import begin
from fttool.runs.stages.loop import Prepared, with_loop
from fttool.runs.stages.model import with_model
from fttool.runs.stages.plan import with_plan
from fttool.runs.stages.rows import with_rows
from fttool.runs.stages.update import with_update
from fttool.training.world import ALONE, World


def prepare_run(loaded: Loaded, screen: Screen, record: Record, observers: Observers, world: World = ALONE) -> Prepared:
    """Load and check everything, and build the trainer; nothing is written."""
    begun = begin(loaded, screen, record, observers, world)
    return with_loop(with_plan(with_update(with_model(with_rows(begun)))))
