"""The freezing room: which parameters train, and from when on."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.freezing.full import Full
from fttool_plugins.freezing.head_only import HeadOnly


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Full, HeadOnly]
