"""Everything a strategy or an observer may import; verbs build on `fttool.verbs` too, and nothing else is promised.

    from fttool.api import Schedule, ScheduleContext, hookimpl

Names here change only with the major version in the entry-point group (`fttool.v1`). What needs torch is imported when
it is first asked for, so that listing and validating stay quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fttool.contracts.advice import Advice, AdviceContext, AdviceRule
from fttool.contracts.batches import Batches, Batching, BatchingContext, Mixing, MixingContext, RowGroup, RowOrder
from fttool.contracts.layers import Layers, layers
from fttool.contracts.model import (
    ALWAYS,
    Features,
    Freezing,
    FreezingContext,
    FreezingPlan,
    LayerRates,
    LayerRatesContext,
    LoadOptions,
    ModelSource,
    Source,
    SourceContext,
    TrainableUnit,
    Updates,
    from_update,
)
from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import (
    ChatTemplateError,
    Each,
    Encoded,
    Example,
    Filter,
    FilterContext,
    Format,
    FormatContext,
    FormatLook,
    FormatTrial,
    Kept,
    Masking,
    MaskingContext,
    Message,
    RawRows,
    Reader,
    ReaderContext,
    Reason,
    RowEncoder,
    RowFilter,
    RowReader,
    RowSource,
    Verdict,
)
from fttool.contracts.sharding import (
    Launch,
    Memory,
    Numerics,
    Precision,
    PrecisionContext,
    Sharding,
    ShardingContext,
    ShardingPlan,
)
from fttool.contracts.strategy import (
    Context,
    Fraction,
    Level,
    Levels,
    PositiveShareOrSteps,
    ShareOrSteps,
    Strategy,
    Track,
    to_steps,
)
from fttool.contracts.task import (
    Answer,
    InParts,
    Losses,
    Measure,
    Metric,
    MetricContext,
    MicroBatch,
    Predictions,
    Task,
    TaskContext,
    TaskParts,
    learned_tokens,
)
from fttool.contracts.update import (
    Factor,
    Optimizer,
    OptimizerContext,
    OptimizerParts,
    Pull,
    Regularization,
    Regularizer,
    RegularizerContext,
    Schedule,
    ScheduleContext,
)
from fttool.errors import (
    DataError,
    DiskError,
    ExitCode,
    FttoolError,
    ModelError,
    PluginError,
    Problem,
    RecipeError,
    UsageError,
    did_you_mean,
)
from fttool.hookspecs import hookimpl
from fttool.permissions import apply_umask
from fttool.plain import as_row
from fttool.rows.checks.classes import class_core, class_slips
from fttool.rows.checks.marks import MARKS, marked_learned
from fttool.rows.files.file import MAX_ROW_BYTES, RowFile, open_rows, packed_suffix, steady_file
from fttool.rows.files.tree import files_below, folder_entries
from fttool.rows.limits import template_limits
from fttool.rows.templates import chat_ids, chat_text
from fttool.training.held_bytes import bytes_held, bytes_of
from fttool.training.stored import stored_formats
from fttool.visible import show, visible, visible_json

if TYPE_CHECKING:
    from fttool.events import Event
    from fttool.training.shards import gathered, sharded_like

LATER = {"Event": "fttool.events", "gathered": "fttool.training.shards", "sharded_like": "fttool.training.shards"}
"""What is imported when it is first asked for, and the module that has it: no strategy needs events."""


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LATER[name]), name)


__all__ = [
    "ALWAYS",
    "MARKS",
    "MAX_ROW_BYTES",
    "Advice",
    "AdviceContext",
    "AdviceRule",
    "Answer",
    "Batches",
    "Batching",
    "BatchingContext",
    "ChatTemplateError",
    "Context",
    "DataError",
    "DiskError",
    "Each",
    "Encoded",
    "Event",
    "Example",
    "ExitCode",
    "Factor",
    "Features",
    "Filter",
    "FilterContext",
    "Format",
    "FormatContext",
    "FormatLook",
    "FormatTrial",
    "Fraction",
    "Freezing",
    "FreezingContext",
    "FreezingPlan",
    "FttoolError",
    "InParts",
    "Kept",
    "Launch",
    "LayerRates",
    "LayerRatesContext",
    "Layers",
    "Level",
    "Levels",
    "LoadOptions",
    "Losses",
    "Masking",
    "MaskingContext",
    "Measure",
    "Memory",
    "Message",
    "Metric",
    "MetricContext",
    "MicroBatch",
    "Mixing",
    "MixingContext",
    "ModelError",
    "ModelSource",
    "Numerics",
    "Optimizer",
    "OptimizerContext",
    "OptimizerParts",
    "PluginError",
    "PositiveShareOrSteps",
    "Precision",
    "PrecisionContext",
    "Predictions",
    "Problem",
    "Pull",
    "RawRows",
    "Reader",
    "ReaderContext",
    "Reason",
    "Recipe",
    "RecipeError",
    "Regularization",
    "Regularizer",
    "RegularizerContext",
    "RowEncoder",
    "RowFile",
    "RowFilter",
    "RowGroup",
    "RowOrder",
    "RowReader",
    "RowSource",
    "Schedule",
    "ScheduleContext",
    "Sharding",
    "ShardingContext",
    "ShardingPlan",
    "ShareOrSteps",
    "Source",
    "SourceContext",
    "Strategy",
    "Task",
    "TaskContext",
    "TaskParts",
    "Track",
    "TrainableUnit",
    "Updates",
    "UsageError",
    "Verdict",
    "apply_umask",
    "as_row",
    "bytes_held",
    "bytes_of",
    "chat_ids",
    "chat_text",
    "class_core",
    "class_slips",
    "did_you_mean",
    "files_below",
    "folder_entries",
    "from_update",
    "gathered",
    "hookimpl",
    "layers",
    "learned_tokens",
    "marked_learned",
    "open_rows",
    "packed_suffix",
    "sharded_like",
    "show",
    "steady_file",
    "stored_formats",
    "template_limits",
    "to_steps",
    "visible",
    "visible_json",
]
