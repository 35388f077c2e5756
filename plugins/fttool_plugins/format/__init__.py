"""The format room: how a raw row is read."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.format.alpaca import Alpaca
from fttool_plugins.format.labelled import Labelled
from fttool_plugins.format.messages import Messages
from fttool_plugins.format.prompt_completion import PromptCompletion
from fttool_plugins.format.sharegpt import ShareGPT
from fttool_plugins.format.tagged import Tagged
from fttool_plugins.format.text import Text


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Messages, ShareGPT, Alpaca, PromptCompletion, Text, Labelled, Tagged]
