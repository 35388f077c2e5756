"""`full`: everything trains from the first update on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fttool.api import Freezing, FreezingContext, ThawUnit


class Full(Freezing):
    """Every parameter trains from the first update on."""

    name: Literal["full"] = "full"

    def build(self, ctx: FreezingContext) -> Sequence[ThawUnit]:
        """Yield one unit of all parameters."""
        return [ThawUnit(parameters=frozenset(name for name, _ in ctx.model.named_parameters()))]
