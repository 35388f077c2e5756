"""The metric room: numbers that say how good the model is on the evaluation rows."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.metric.accuracy import Accuracy
from fttool_plugins.metric.answer_f1 import AnswerF1
from fttool_plugins.metric.entity_f1 import EntityF1
from fttool_plugins.metric.entity_precision import EntityPrecision
from fttool_plugins.metric.entity_recall import EntityRecall
from fttool_plugins.metric.exact_match import ExactMatch
from fttool_plugins.metric.json_valid import JsonValid
from fttool_plugins.metric.loss import Loss
from fttool_plugins.metric.macro_f1 import MacroF1
from fttool_plugins.metric.mse import MeanSquaredError
from fttool_plugins.metric.pearson import Pearson
from fttool_plugins.metric.perplexity import Perplexity
from fttool_plugins.metric.rouge_l import RougeL
from fttool_plugins.metric.spearman import Spearman
from fttool_plugins.metric.token_accuracy import TokenAccuracy


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [
        Loss,
        Perplexity,
        TokenAccuracy,
        Accuracy,
        MacroF1,
        EntityF1,
        EntityPrecision,
        EntityRecall,
        Pearson,
        Spearman,
        MeanSquaredError,
        ExactMatch,
        AnswerF1,
        RougeL,
        JsonValid,
    ]
