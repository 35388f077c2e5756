"""The optimizer room: the rule that turns a gradient into an update."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.optimizer.adafactor import Adafactor
from fttool_plugins.optimizer.adamw import AdamW
from fttool_plugins.optimizer.muon import Muon
from fttool_plugins.optimizer.sgd import SGD


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [AdamW, SGD, Adafactor, Muon]
