"""A run, and how it ended on the screen."""

from __future__ import annotations

from typing import Any

from fttool.recipe.loaded import Loaded
from fttool.runs.run import Ended, run
from fttool.show import closing
from fttool.watch.screen import Screen


def run_shown(loaded: Loaded, screen: Screen, **how: Any) -> Ended:
    """`run` with `how`, then the closing screen."""
    ended = run(loaded, screen, **how)
    if ended.shown:
        screen.finished(ended.summary, closing.text(ended))
    return ended
