"""The sharding room: how a run is spread over processes."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.sharding.auto import Auto
from fttool_plugins.sharding.ddp import DDP
from fttool_plugins.sharding.fsdp import FSDP
from fttool_plugins.sharding.none import Unsharded
from fttool_plugins.sharding.zero import ZeRO


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Unsharded, DDP, FSDP, ZeRO, Auto]
