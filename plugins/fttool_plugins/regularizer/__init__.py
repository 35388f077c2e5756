"""The regularizer room: what keeps the model near what it knew."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.regularizer.l2_init import L2Init


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [L2Init]
