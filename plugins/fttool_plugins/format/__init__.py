"""The format room: how a raw row is read."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.format.auto import ROOM, Auto


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [*ROOM, Auto]
