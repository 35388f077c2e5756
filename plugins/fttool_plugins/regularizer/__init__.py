"""The regularizer room: what keeps the model near what it knew."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.regularizer.ema import EMA
from fttool_plugins.regularizer.ewc import EWC
from fttool_plugins.regularizer.kl_init import KLInit
from fttool_plugins.regularizer.l2_init import L2Init
from fttool_plugins.regularizer.l2_sp import L2SP
from fttool_plugins.regularizer.mixout import Mixout
from fttool_plugins.regularizer.wise_ft import WiseFT


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [L2Init, L2SP, EWC, KLInit, Mixout, EMA, WiseFT]
