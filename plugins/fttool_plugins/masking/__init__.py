"""The masking room: which tokens of a row are learned."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.masking.all import All
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.chosen_turns import ChosenTurns
from fttool_plugins.masking.completion import Completion
from fttool_plugins.masking.label import Label
from fttool_plugins.masking.last_assistant import LastAssistant
from fttool_plugins.masking.words import Words


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Assistant, LastAssistant, ChosenTurns, Completion, All, Label, Words]
