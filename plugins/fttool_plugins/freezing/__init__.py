"""The freezing room: which parameters train, and from when on."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.freezing.bitfit import BitFit
from fttool_plugins.freezing.full import Full
from fttool_plugins.freezing.gradual import Gradual
from fttool_plugins.freezing.head_only import HeadOnly
from fttool_plugins.freezing.lisa import Lisa
from fttool_plugins.freezing.lora import Lora
from fttool_plugins.freezing.patterns import Patterns
from fttool_plugins.freezing.top_layers import TopLayers


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Full, HeadOnly, TopLayers, Gradual, Patterns, BitFit, Lisa, Lora]
