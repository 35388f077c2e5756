"""The first stage: a valid recipe, what is around the run, the device, and the number formats."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fttool.contracts.sharding import Numerics, PrecisionContext
from fttool.machine import device, heed_the_recipe_alone, native_bf16, quiet_libraries, refuse_missing_gpu
from fttool.recipe.loaded import Loaded
from fttool.rows.format_detection import settled
from fttool.watch.tracking import refuse_missing_trackers
from fttool.watch.watch import Watch
from fttool.world import World
from fttool.yielded import built

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every later stage has too."""

    loaded: Loaded
    """The recipe."""
    folder: Path
    """The run directory, which may not be there yet."""
    watch: Watch
    """Is told what happens."""
    world: World
    """The processes of the run, and which of them this one is."""
    device: torch.device
    """Of this process."""
    numerics: Numerics
    """The number formats."""


def set_up(loaded: Loaded, folder: Path, watch: Watch, world: World, on: torch.device | None = None) -> Setup:
    """Look at the machine and its libraries, and choose the number formats, and those of rows that are left open.

    `on` is the device, a GPU where there is one by default.
    """
    with redirect_stdout(sys.stderr):  # with WANDB_MODE=offline, transformers says so there as it is imported
        from fttool.training.trainer import refuse_other_libraries

    loaded = settled(loaded)
    quiet_libraries(network=loaded.needs_network)
    heed_the_recipe_alone()
    refuse_other_libraries()
    refuse_missing_trackers(loaded.recipe)
    on = on or device()
    refuse_missing_gpu(on)
    numerics = built(loaded.recipe.precision, PrecisionContext(device=on, native_bf16=native_bf16(on), **loaded.common))
    watch.note(f"precision: {numerics.reason}")
    return Setup(loaded=loaded, folder=folder, watch=watch, world=world, device=on, numerics=numerics)


S = TypeVar("S", bound=Setup)


def extended(stage: Setup, kind: type[S], **more: Any) -> S:
    """The next stage: all that `stage` has, and `more`."""
    return kind(**{field.name: getattr(stage, field.name) for field in fields(stage)}, **more)
