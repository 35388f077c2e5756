"""The layer-rates room: each parameter's learning rate, as a factor of the optimizer's."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.layer_rates.discriminative import Discriminative
from fttool_plugins.layer_rates.uniform import Uniform


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Uniform, Discriminative]
