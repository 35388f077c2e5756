"""What every sharding over several processes is told: how many, where, and what to do when one of them dies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import override

from fttool.api import Launch, Problem, Sharding

if TYPE_CHECKING:
    from fttool.api import Recipe


class SeveralProcesses(Sharding):
    """Options of a launch."""

    processes: Annotated[int, Field(ge=1)]
    """Of the whole run; one per GPU. run.global_batch must be a multiple of it times run.micro_batch."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Machines, with the same number of processes on each; `fttool run` is started once on each of them."""
    timeout: Annotated[int, Field(ge=1)] = 1800
    """Seconds after which processes that wait for one give up."""
    max_restarts: Annotated[int, Field(ge=0)] = 0
    """How often all processes start again, from the newest complete checkpoint, after one has died."""

    @property
    @override
    def launch(self) -> Launch:
        return Launch(processes=self.processes, nodes=self.nodes, max_restarts=self.max_restarts)

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Each machine starts as many processes as every other, and shares are for two processes at least."""
        if self.sharded and self.processes == 1:
            yield Problem(
                f"{self.id()} shares what a run holds among processes, and there is one",
                hint='use two or more, or set sharding = "none"',
                key=("sharding", "processes"),
            )
        if self.processes % self.nodes:
            yield Problem(
                f"{self.processes} processes do not spread evenly over {self.nodes} nodes",
                hint=f"e.g. processes = {-(-self.processes // self.nodes) * self.nodes}",
                key=("sharding", "processes"),
            )
