"""Every hook that a plugin may implement.

`fttool_strategies` is how strategies come in. The other hooks are for observers: plugins that a recipe names under
`[plugins] observe` and that watch the run. An observer that raises is switched off and recorded in `events.jsonl`; the
run goes on. A hook implementation may leave out arguments it does not need, so hooks can grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fttool.contracts.recipe import Recipe
    from fttool.contracts.strategy import Strategy
    from fttool.events import Event

PROJECT = "fttool"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name: `@hookimpl`."""


@hookspec
def fttool_strategies() -> list[type[Strategy]]:  # pyright: ignore[reportReturnType]
    """The strategy classes that this plugin brings, of any family."""


@hookspec
def fttool_recipe_loaded(recipe: Recipe) -> None:
    """The recipe is valid; nothing has been written or loaded yet."""


@hookspec
def fttool_run_started(recipe: Recipe, run_dir: Path, total_steps: int) -> None:
    """The model is loaded, the rows are ready, and the first update is about to begin."""


@hookspec
def fttool_logged(step: int, values: Mapping[str, Any]) -> None:
    """A line was written to `metrics.jsonl`: `loss`, `lr`, `tokens_per_second`, or `eval_…` values."""


@hookspec
def fttool_checkpoint_saved(step: int, folder: Path) -> None:
    """A checkpoint is complete under its final name."""


@hookspec
def fttool_event(event: Event) -> None:
    """A line was written to `events.jsonl`; `event.kind()` and `event.described()` are what it says."""


@hookspec
def fttool_run_finished(status: str, summary: Mapping[str, Any]) -> None:
    """The run has ended, `summary.json` is written; `status` is `finished`, `interrupted`, `diverged` or `failed`."""
