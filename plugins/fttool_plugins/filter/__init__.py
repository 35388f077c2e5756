"""The filter room: which rows are kept.

Its patterns stand as text: `re` compiles them when they are first used, and keeps them. To compile them all took longer
than all else that `fttool validate` does with this room, whose filters few recipes name.
"""

from fttool.api import Strategy, hookimpl
from fttool_plugins.filter.class_names import ClassNames
from fttool_plugins.filter.conflicting_labels import ConflictingLabels
from fttool_plugins.filter.difficulty import Difficulty
from fttool_plugins.filter.diversity import Diversity
from fttool_plugins.filter.encoding import Encoding
from fttool_plugins.filter.exact_duplicates import ExactDuplicates
from fttool_plugins.filter.label_errors import LabelErrors
from fttool_plugins.filter.language import InLanguage
from fttool_plugins.filter.length import Length
from fttool_plugins.filter.markup import Markup
from fttool_plugins.filter.near_duplicates import NearDuplicates
from fttool_plugins.filter.overlap import Overlap
from fttool_plugins.filter.personal_data import PersonalData
from fttool_plugins.filter.refusals import Refusals
from fttool_plugins.filter.relevance import Relevance
from fttool_plugins.filter.repetition import Repetition
from fttool_plugins.filter.words import Words


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [
        Words,
        Length,
        ExactDuplicates,
        NearDuplicates,
        Overlap,
        Repetition,
        Refusals,
        Encoding,
        InLanguage,
        Markup,
        PersonalData,
        ClassNames,
        ConflictingLabels,
        LabelErrors,
        Relevance,
        Difficulty,
        Diversity,
    ]
