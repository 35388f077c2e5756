"""The processes of a run, and what one of them asks of the others.

A launcher (fttool's own, torchrun, accelerate, deepspeed, srun) says in the environment which process this is. Every
method here is called by all processes in the same order, or by none; alone it answers at once and without torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


REPORTS = "FTTOOL_REPORTS"
"""Environment: the folder in which processes that fttool has started say who they are and what went wrong."""


@dataclass(frozen=True, slots=True)
class World:
    """One of `size` processes that make a run together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> World:
        """As this process's environment says."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def first(self) -> bool:
        """True in the process that writes the run directory and shows the run."""
        return self.rank == 0

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.size == 1:
            return values
        import torch.distributed as dist

        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    def all_reduce_sums(self, numbers: Sequence[int], device: Any) -> list[int]:
        """The sum over all processes of each number, in each of them; they travel by `device`."""
        return self._reduced(numbers, device, "SUM")

    def all_reduce_max(self, numbers: Sequence[int], device: Any) -> list[int]:
        """The largest of all processes' numbers, one by one, in each of them; they travel by `device`."""
        return self._reduced(numbers, device, "MAX")

    def _reduced(self, numbers: Sequence[int], device: Any, how: str) -> list[int]:
        if self.size == 1:
            return list(numbers)
        import torch
        import torch.distributed as dist

        values = torch.tensor(numbers, device=device)
        dist.all_reduce(values, getattr(dist.ReduceOp, how))
        return values.tolist()

    def all_gather(self, thing: Any) -> list[Any]:
        """What each process has, by rank, in each of them."""
        if self.size == 1:
            return [thing]
        import torch.distributed as dist

        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, thing)
        return gathered

    def barrier(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def leave(self) -> None:
        """As `barrier`, before this process ends: where the others cannot be reached, they have ended already."""
        with suppress(RuntimeError):
            self.barrier()


ALONE = World()
