"""A run that is made for its numbers alone, in this process: nothing is shown, and no checkpoints and no model stay.

For verbs that compare runs which they make themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fttool.recipe.loaded import Loaded
from fttool.watch.screen import Screen


def short_run(loaded: Loaded) -> Mapping[str, Any]:
    """Run the recipe in one process; returns what `summary.json` has. The run directory is where the recipe says.

    Raises:
        FttoolError: the one that `fttool run` would print.
    """
    from fttool.runs.refusing import refuse_early
    from fttool.runs.run import run

    refuse_early(loaded, resume=False)
    return run(loaded, Screen(), saves=False).summary
