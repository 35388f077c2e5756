"""The model room: where the model and its tokenizer come from."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.model.builtin import Builtin
from fttool_plugins.model.config import Config
from fttool_plugins.model.package import Package
from fttool_plugins.model.pretrained import Pretrained


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Pretrained, Package, Config, Builtin]
