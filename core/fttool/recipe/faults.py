"""Whose fault it is: what is raised in a run becomes words, with the place in the recipe that it comes from.

A strategy may raise in its `check` and `build`, and much later in a function that it built. So the traceback is asked:
the innermost frame that runs a strategy's code tells which one it was. Nothing has to be wrapped, and nothing that a
strategy yields loses its state, its type or its speed.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from fttool.disk import told
from fttool.errors import FttoolError, OutOfMemoryError, PluginError, gist
from fttool.machine import ran_out_of_memory

if TYPE_CHECKING:
    from fttool.contracts.recipe import Recipe
    from fttool.contracts.strategy import Strategy
    from fttool.recipe.loaded import Loaded
    from fttool.recipe.overrides import Key

Used = tuple["Key", "Strategy"]
"""A strategy and its place in the recipe."""


@contextmanager
def explained(loaded: Loaded) -> Generator[None]:
    """Around a run: memory or a disk that runs out becomes advice; else as `blamed`."""
    with blamed(loaded), told():
        try:
            yield
        except OutOfMemoryError:
            raise
        except Exception as error:
            fault = error.__cause__ if isinstance(error, FttoolError) else error
            if not isinstance(fault, MemoryError | RuntimeError) or not ran_out_of_memory(fault):
                raise
            hint = out_of_memory_hint(loaded.recipe)
            raise OutOfMemoryError(f"out of memory: {gist(fault or error)}", hint=hint) from error


@contextmanager
def blamed(loaded: Loaded) -> Generator[None]:
    """Around code that calls strategies: whatever one from a plugin raises becomes a `PluginError` that names it.

    What is a message already gets its place in the recipe, where it has none: that of its key, or of the strategy that
    raised it. A fault of fttool itself comes through.
    """
    try:
        yield
    except FttoolError as error:
        culprits = _named(error, loaded) or _culprits(error, loaded)
        error.locate(loaded.where, culprits[0][0] if culprits else ())
        raise
    except (Exception, SystemExit) as fault:
        culprits = _culprits(fault, loaded)
        if not culprits or not _is_third_party(culprits[0][1]):
            raise
        names = " or ".join(f"'{name}'" for name in dict.fromkeys(strategy.id() for _, strategy in culprits))
        prefix = culprits[0][1].id().partition(".")[0]
        raise PluginError(
            f"strategy {names}, of the plugin {loaded.plugins.entry(prefix)}, raised {gist(fault)}",
            where=loaded.where(culprits[0][0]),
            hint="tell the plugin's authors; --debug shows the traceback",
        ) from fault


def _named(error: FttoolError, loaded: Loaded) -> list[Used]:
    """The strategy that the error is about, where it says so; its plugin is added to what is said, once."""
    if not isinstance(error, PluginError) or error.by is None:
        return []
    culprits = [(place, strategy) for place, strategy in loaded.recipe.strategies() if strategy is error.by]
    error.by = None
    if culprits and _is_third_party(culprits[0][1]):
        owner = loaded.plugins.entry(culprits[0][1].id().partition(".")[0])
        error.problems = tuple(
            replace(problem, message=f"{problem.message}; plugin {owner}") for problem in error.problems
        )
    return culprits


def _culprits(fault: BaseException, loaded: Loaded) -> list[Used]:
    """The recipe's strategies in whose code `fault` was raised: one by its method, else all of a module or plugin."""
    used = list(loaded.recipe.strategies())
    frames = [frame for frame, _ in traceback.walk_tb(fault.__traceback__)]
    for frame in reversed(frames):
        own = [(place, strategy) for place, strategy in used if strategy is frame.f_locals.get("self")]
        culprits = own or [(place, strategy) for place, strategy in used if _runs(frame, strategy)]
        if culprits:
            return culprits
    # A loader process hands its traceback over as text.
    text = str(fault)
    return [
        (place, strategy)
        for place, strategy in used
        if _is_third_party(strategy) and f'"{inspect.getfile(type(strategy))}"' in text
    ]


def _runs(frame: FrameType, strategy: Strategy) -> bool:
    """True where the frame runs code of the strategy's module; of its whole package where it is a third party's."""
    running, home = str(frame.f_globals.get("__name__")), type(strategy).__module__
    return running == home or (_is_third_party(strategy) and running.partition(".")[0] == home.partition(".")[0])


def _is_third_party(strategy: Any) -> bool:
    return "." in strategy.id()


def out_of_memory_hint(recipe: Recipe) -> str:
    """What to change when memory ran out."""
    advice: list[str] = []
    alone = recipe.sharding.world_size == 1
    if recipe.micro_batch > 1 and not (alone and recipe.run.micro_batch == "auto"):
        half = recipe.fewer_at_once(recipe.micro_batch)
        advice.append(f"run.micro_batch = {half} with run.global_batch = {recipe.global_batch} (the same updates)")
    if (recipe.evaluation.micro_batch or 1) > 1:
        advice.append("a smaller evaluation.micro_batch, if it was in an evaluation")
    if not recipe.model.gradient_checkpointing:
        advice.append("model.gradient_checkpointing = true")
    advice.append(f"a batching.max_length below {recipe.batching.max_length}")
    return "try " + ", or ".join(advice)
