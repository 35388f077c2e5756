"""`none`: one process holds everything."""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Sharding, ShardingContext, ShardingPlan, bytes_held


class Unsharded(Sharding):
    """One process holds all parameters, gradients and optimizer state.

    With AdamW in fp32 that is 16 bytes per parameter, before activations.

    Use it as long as everything fits into one device. Cost: no communication.
    """

    name: Literal["none"] = "none"

    @override
    def build(self, ctx: ShardingContext) -> ShardingPlan:
        return ShardingPlan(processes=1, prove=bytes_held)
