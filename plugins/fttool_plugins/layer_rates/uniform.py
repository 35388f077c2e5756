"""`uniform`: one rate for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from typing_extensions import override

from fttool.api import LayerRates, LayerRatesContext


class Uniform(LayerRates):
    """Every parameter has the optimizer's rate.

    Use it as long as nothing is lost below, or with `gradual`. Cost: nothing.
    """

    name: Literal["uniform"] = "uniform"

    @override
    def build(self, ctx: LayerRatesContext) -> Callable[[str], float]:
        return uniform


def uniform(parameter: str) -> float:
    """1, whatever the parameter."""
    return 1.0
