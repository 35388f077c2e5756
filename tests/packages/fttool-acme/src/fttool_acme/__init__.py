"""What this package brings to fttool: strategies of each family, and hooks that watch a run."""

from fttool.api import Strategy, hookimpl
from fttool_acme.batching import LongestFirst
from fttool_acme.budget import TokenBudget
from fttool_acme.consistency import RDrop
from fttool_acme.diary import (
    fttool_checkpoint_saved,
    fttool_event,
    fttool_logged,
    fttool_recipe_loaded,
    fttool_run_finished,
    fttool_run_started,
)
from fttool_acme.filter import NoUrls
from fttool_acme.format import MultipleChoice
from fttool_acme.freezing import EveryOther
from fttool_acme.layer_rates import SlowEmbeddings
from fttool_acme.masking import After
from fttool_acme.median import MedianLoss
from fttool_acme.metric import Top5
from fttool_acme.mixing import Capped
from fttool_acme.model import Soup
from fttool_acme.optimizer import Signum
from fttool_acme.precision import Bf16OnGpu
from fttool_acme.reader import Sqlite
from fttool_acme.refusals import Refusals
from fttool_acme.regularizer import TailAverage
from fttool_acme.repetitive import Repetitive
from fttool_acme.schedule import Drops
from fttool_acme.sentences import WholeSentences
from fttool_acme.sharding import OneOfMany
from fttool_acme.task import DynamicFineTuning


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this package, in the order in which a run uses them."""
    return [
        Soup,
        Sqlite,
        MultipleChoice,
        NoUrls,
        TokenBudget,
        Repetitive,
        Capped,
        After,
        LongestFirst,
        EveryOther,
        SlowEmbeddings,
        Signum,
        Drops,
        TailAverage,
        RDrop,
        Bf16OnGpu,
        OneOfMany,
        DynamicFineTuning,
        Top5,
        MedianLoss,
        WholeSentences,
        Refusals,
    ]


__all__ = [
    "After",
    "Bf16OnGpu",
    "Capped",
    "Drops",
    "DynamicFineTuning",
    "EveryOther",
    "LongestFirst",
    "MedianLoss",
    "MultipleChoice",
    "NoUrls",
    "OneOfMany",
    "RDrop",
    "Refusals",
    "Repetitive",
    "Signum",
    "SlowEmbeddings",
    "Soup",
    "Sqlite",
    "TailAverage",
    "TokenBudget",
    "Top5",
    "WholeSentences",
    "fttool_checkpoint_saved",
    "fttool_event",
    "fttool_logged",
    "fttool_recipe_loaded",
    "fttool_run_finished",
    "fttool_run_started",
    "fttool_strategies",
]
