"""The contracts between core and strategies: of each family one base class, one context, and what `build` yields.

Read `strategy.py` first, then the stages of a run in its order: `rows.py`, `batches.py`, `model.py`, `update.py`,
`sharding.py`, `task.py`.

A strategy is a frozen pydantic model. Its fields are its options, its `name` literal is its id, its docstrings are its
documentation and the schema's. `build(ctx)` turns it into plain functions or objects that never see the recipe; what
they return may have `state_dict`/`load_state_dict`, which core saves and restores with each checkpoint.

Contexts are keyword-only and frozen; fields are only ever added. Nothing here imports torch at run time, so a recipe
is validated without it: a strategy imports torch inside `build`.
"""

from collections.abc import Mapping

from fttool.contracts.batches import Batching, Mixing
from fttool.contracts.model import Freezing, LayerRates, ModelSource
from fttool.contracts.rows import Filter, Format, Masking, Reader
from fttool.contracts.sharding import Precision, Sharding
from fttool.contracts.strategy import Strategy
from fttool.contracts.task import Metric, Task
from fttool.contracts.update import Optimizer, Regularizer, Schedule

_IN_ORDER: tuple[type[Strategy], ...] = (
    ModelSource,
    Reader,
    Format,
    Filter,
    Mixing,
    Masking,
    Batching,
    Freezing,
    LayerRates,
    Optimizer,
    Schedule,
    Regularizer,
    Precision,
    Sharding,
    Task,
    Metric,
)
FAMILIES: Mapping[str, type[Strategy]] = {base.family: base for base in _IN_ORDER}
"""The base class of each family by its name, in the order in which a run uses them."""
