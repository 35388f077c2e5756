"""What a run is going to write, and whether its disk has room for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fttool import disk
from fttool.errors import DiskError
from fttool.runs.stages.loop import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """What a run writes, by estimate, in bytes."""

    checkpoint: int
    """One of them."""
    checkpoints: int
    """How many there are at once, one that is being written among them."""
    model: int
    """The final one."""
    there: int
    """What checkpoints and a model take already, of a run that goes on."""
    free: int

    @property
    def needed(self) -> int:
        """Beside what is there."""
        return max(0, self.checkpoint * self.checkpoints + self.model - self.there)

    def __str__(self) -> str:
        many = f"{self.checkpoints} checkpoints of {disk.size(self.checkpoint)} at once"
        single = f"a checkpoint of {disk.size(self.checkpoint)}"
        there = f", less {disk.size(self.there)} that are there" if self.there else ""
        which = single if self.checkpoints == 1 else many
        return f"{which} and a model of {disk.size(self.model)}{there}: {disk.size(self.needed)}"


def disk_space(prepared: Prepared, folder: Path) -> DiskSpace:
    """What the run is going to write into its directory, and what is free there."""
    recipe, job, total = prepared.loaded.recipe, prepared.trainer.job, prepared.length.total_steps
    settings, every = recipe.checkpoints, recipe.checkpoints.every or total
    named = dict(prepared.model.named_parameters())
    trained = {name for group in prepared.update.groups for name in group.names}
    weights = sum(p.numel() * p.element_size() for name, p in named.items() if name in trained)
    saves = -(-total // every) + bool(settings.keep_stable and job.stable)
    stay = settings.keep + settings.keep_stable + (recipe.evaluation.best is not None)
    return DiskSpace(
        checkpoint=weights + prepared.memory().optimizer,
        checkpoints=min(saves, stay + 1),
        model=sum(p.numel() * job.output.formats.of(name, p).itemsize for name, p in named.items()),
        there=disk.bytes_in(folder / "checkpoints") + disk.bytes_in(folder / "model"),
        free=disk.free_bytes(folder),
    )


def refuse_full_disk(space: DiskSpace, folder: Path) -> None:
    """Raise `DiskError` where the disk has less room than the run is going to need."""
    if space.free >= space.needed:
        return
    message = f"the disk of '{folder}' has {disk.size(space.free)} free, and the run needs {space}"
    hint = "lower checkpoints.keep, free some space, or name another folder: --set run.output=…"
    raise DiskError(message, hint=hint)
