"""What a run is refused for before torch is imported: its directory, a recipe changed since, trackers, and paths."""

from __future__ import annotations

from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.rows.paths import refuse_unusable
from fttool.rundir.record import Record
from fttool.runs.resume import refuse_another_recipe
from fttool.watch.tracking import refuse_missing_trackers
from fttool.world import World


def refuse_early(loaded: Loaded, *, resume: bool | None) -> None:
    """Raise what the recipe, the run directory and the files that the recipe names rule out already.

    With None as `resume` nothing is to be written, so the run directory may be there or not. Only the first process of
    a run looks; it looks at its directory again once it holds it.
    """
    if not World.here().first:
        return
    with explained(loaded):
        if resume is None:
            Record.tried(loaded)
        elif (record := Record.at(loaded, resume)) and resume:
            refuse_another_recipe(record, loaded)
        refuse_missing_trackers(loaded.recipe)
        refuse_unusable(loaded)
