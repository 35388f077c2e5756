"""The mixing room: how several datasets become one stream of rows."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.mixing.concatenate import Concatenate
from fttool_plugins.mixing.replay import Replay
from fttool_plugins.mixing.weighted import Weighted


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Concatenate, Weighted, Replay]
