"""The precision room: number formats of weights and computation."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.precision.auto import Auto
from fttool_plugins.precision.bf16 import Bf16
from fttool_plugins.precision.fp16 import Fp16
from fttool_plugins.precision.fp32 import Fp32


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Auto, Fp32, Bf16, Fp16]
