"""The first stage: a valid recipe, what is around the run, the device, and the number formats."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from fttool.contracts.sharding import Numerics, PrecisionContext
from fttool.observers import Observers
from fttool.recipe.reading import Loaded
from fttool.runs.environment import device, heed_the_recipe_alone, native_bf16, quiet_libraries, refuse_missing_gpu
from fttool.runs.record import Record
from fttool.runs.screen import Screen
from fttool.runs.tracking import refuse_missing_trackers
from fttool.training.world import World
from fttool.training.yielded import built

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What every later stage has too."""

    loaded: Loaded
    screen: Screen
    record: Record
    observers: Observers
    world: World
    device: torch.device
    """Of this process."""
    numerics: Numerics


def begin(loaded: Loaded, screen: Screen, record: Record, observers: Observers, world: World) -> Begun:
    """Look at the machine and its libraries, and choose the number formats."""
    from fttool.training.trainer import refuse_other_libraries

    quiet_libraries(loaded)
    heed_the_recipe_alone()
    refuse_other_libraries()
    refuse_missing_trackers(loaded.recipe)
    on = device()
    refuse_missing_gpu(on)
    numerics = built(loaded.recipe.precision, PrecisionContext(device=on, native_bf16=native_bf16(on)))
    screen.note(f"precision: {numerics.reason}")
    return Begun(
        loaded=loaded, screen=screen, record=record, observers=observers, world=world, device=on, numerics=numerics
    )


S = TypeVar("S", bound=Begun)


def grown(stage: Begun, kind: type[S], **more: Any) -> S:
    """The next stage: all that `stage` has, and `more`."""
    return kind(**{field.name: getattr(stage, field.name) for field in fields(stage)}, **more)
