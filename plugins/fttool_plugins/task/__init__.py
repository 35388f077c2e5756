"""The task room: what is learned."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.task.classification import Classification
from fttool_plugins.task.sft import SupervisedFineTuning
from fttool_plugins.task.token_classification import TokenClassification


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [SupervisedFineTuning, Classification, TokenClassification]
