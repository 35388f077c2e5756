"""The schedule room: the learning rate over the run, as a factor of each group's rate."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.schedule.constant import Constant
from fttool_plugins.schedule.cosine import Cosine
from fttool_plugins.schedule.cosine_restarts import CosineRestarts
from fttool_plugins.schedule.exponential import Exponential
from fttool_plugins.schedule.inverse_sqrt import InverseSqrt
from fttool_plugins.schedule.linear import Linear
from fttool_plugins.schedule.polynomial import Polynomial
from fttool_plugins.schedule.slanted_triangular import SlantedTriangular
from fttool_plugins.schedule.wsd import WarmupStableDecay


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [
        Constant,
        Linear,
        Polynomial,
        Cosine,
        CosineRestarts,
        SlantedTriangular,
        InverseSqrt,
        WarmupStableDecay,
        Exponential,
    ]
