"""The batching room: how rows become micro-batches."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.batching.bucketed import Bucketed
from fttool_plugins.batching.packed import Packed
from fttool_plugins.batching.padded import Padded


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Padded, Bucketed, Packed]
