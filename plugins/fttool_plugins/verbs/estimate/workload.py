"""What a run has to compute: its micro-batches with their padding, what trains in which update, and all evaluations.

The first epoch stands for all of them: their order differs, and with it the padding, by a percent or so.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fttool.api import Features, Recipe
from fttool_plugins.task.sft import SupervisedFineTuning
from fttool_plugins.verbs.estimate.operations import Cost, Operations, operations

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fttool.verbs import Outline

BEGIN = 10_000
"""Micro-batches of an epoch that are known one by one; of the others only the sum is."""
FLOAT = 4
"""Bytes of a number that is kept of a base model's outputs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Micro-batches, one or several together."""

    slots: float = 0.0
    """Tokens and padding that go through the layers."""
    places: float = 0.0
    """Of them, those that reach the head; or rows, where rows have classes."""
    pairs: float = 0.0
    """Two places of a sequence that attention compares."""
    tokens: float = 0.0
    """Without padding."""
    passes: int = 0
    """How many micro-batches these are."""

    def __add__(self, other: Shape) -> Shape:
        return Shape(
            self.slots + other.slots,
            self.places + other.places,
            self.pairs + other.pairs,
            self.tokens + other.tokens,
            self.passes + other.passes,
        )

    def costs(self, cost: Cost) -> float:
        """Operations."""
        return cost.of(self.slots, self.places, self.pairs)


NOTHING = Shape()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run whose work is to be counted: one that is prepared, or an outline."""

    recipe: Recipe
    model: PreTrainedModel
    """May be on the meta device."""
    epoch: Shape
    """The first epoch."""
    largest: Shape
    """Its micro-batch with most slots."""
    begin: Sequence[Shape]
    """Its micro-batches up to `BEGIN`."""
    evaluation: Shape
    """All micro-batches of one evaluation."""
    rows: int
    """That are learned from."""
    units: Sequence[tuple[Collection[str], Sequence[range]]]
    """Names of parameters with the updates that train them."""
    total_steps: int
    steps_per_epoch: int
    features: Features | None = None
    """Given where the base model never trains."""


def of_outline(outline: Outline, *, rows: int | None = None, tokens: int = 0, learned: float = 1.0) -> Subject:
    """The outline's run; where no rows were read, of so many with so many `tokens` each, a share of them learned."""
    recipe = outline.run.loaded.recipe
    if rows is None:
        shapes, measured, count = _shapes(recipe, outline.planned, _attention(outline.model))
    else:
        shapes, measured, count = _uniform(recipe, rows, tokens, learned), NOTHING, rows
    epoch, largest, begin = _summed(shapes)
    return Subject(
        recipe=recipe,
        model=outline.model,
        epoch=epoch,
        largest=largest,
        begin=begin,
        evaluation=measured,
        rows=count,
        units=[(unit.parameters, unit.trains_in) for unit in outline.freezing.units],
        total_steps=outline.total_steps,
        steps_per_epoch=outline.steps_per_epoch,
        features=outline.freezing.features,
    )


def of_prepared(prepared: Any) -> Subject:
    """A run just before its first update."""
    recipe = prepared.loaded.recipe
    shapes, measured, count = _shapes(recipe, prepared.batching.planned(), _attention(prepared.model))
    epoch, largest, begin = _summed(shapes)
    return Subject(
        recipe=recipe,
        model=prepared.model,
        epoch=epoch,
        largest=largest,
        begin=begin,
        evaluation=measured,
        rows=count,
        units=[(group.names, group.trains_in) for group in prepared.update.groups],
        total_steps=prepared.length.total_steps,
        steps_per_epoch=prepared.length.steps_per_epoch,
        features=prepared.update.features,
    )


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to compute, all of its processes together."""

    training: float
    """Operations of all updates."""
    evaluation: float = 0.0
    """Of all evaluations."""
    features: float = 0.0
    """Of the base model's one pass over all rows, where what it computes is kept."""
    updates: int
    passes: int
    """Micro-batches of all updates."""
    measured_passes: int = 0
    """Micro-batches of all evaluations."""
    feature_passes: int = 0
    """Of the base model's one pass over all rows."""
    tokens: float
    """That are learned from, padding not counted, each as often as it is seen."""
    slots: float
    """Padding counted."""
    parameters: int
    trained: int
    """Parameters that train in some update."""
    depth: int
    """Layers."""
    processes: int = 1
    kept: bool = False
    """True where an update costs the head alone."""
    notes: Sequence[str] = field(default=())

    @property
    def operations(self) -> float:
        """All of them."""
        return self.training + self.evaluation + self.features


def work(run: Subject) -> Work:
    """Count it."""
    found, recipe = operations(run.model), run.recipe
    epoch = run.epoch
    processes = recipe.sharding.world_size
    kept = _keeps_features(run, epoch)
    each = run.total_steps / run.steps_per_epoch
    training = sum(
        share * epoch.costs(training_cost(run, found, names, kept=kept)) / run.steps_per_epoch
        for names, share in phases(run.units, run.total_steps)
    )
    evaluations = count_evaluations(run) if run.evaluation.passes else 0
    return Work(
        training=training,
        evaluation=evaluations * run.evaluation.costs(found.forward),
        features=epoch.costs(found.base()) if kept else 0.0,
        updates=run.total_steps,
        passes=round(epoch.passes * each),
        measured_passes=evaluations * run.evaluation.passes,
        feature_passes=epoch.passes if kept else 0,
        tokens=epoch.tokens * each,
        slots=epoch.slots * each,
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        trained=_trained(run),
        depth=found.depth,
        processes=processes,
        kept=kept,
        notes=_notes(run),
    )


def training_cost(run: Subject, found: Operations, names: Collection[str], *, kept: bool) -> Cost:
    """Operations of an update's passes in which these parameters train."""
    cost = found.training(names, recomputed=run.recipe.model.gradient_checkpointing)
    return Cost(place=cost.place) if kept else cost


def phases(units: Sequence[tuple[Collection[str], Sequence[range]]], total: int) -> list[tuple[Collection[str], int]]:
    """Which parameters train together, and in how many of `total` updates."""
    turns = {turn for _, stretches in units for one in stretches for turn in (one.start, one.stop) if turn < total}
    edges = [*sorted({0, *turns}), total]
    updates: dict[frozenset[int], int] = {}
    for start, stop in itertools.pairwise(edges):
        trains = frozenset(
            index for index, (_, stretches) in enumerate(units) if any(start in stretch for stretch in stretches)
        )
        updates[trains] = updates.get(trains, 0) + stop - start
    return [({name for index in trains for name in units[index][0]}, count) for trains, count in updates.items()]


def count_evaluations(run: Subject) -> int:
    """Before the first update, on schedule, and after the last."""
    every = run.recipe.evaluation.every
    scheduled = sum(1 for step in range(1, run.total_steps) if step % every == 0) if every else 0
    return scheduled + 2


def update_costs(run: Subject, updates: int) -> list[tuple[float, float]]:
    """Operations and micro-batches of the first updates, of all processes, as far as `begin` goes.

    A micro-batch whose features are kept calls no layer, and counts as the share of one that a layer is.
    """
    found, size = operations(run.model), run.recipe.accumulation * run.recipe.sharding.world_size
    kept = _keeps_features(run, run.epoch)
    costs: list[tuple[float, float]] = []
    for step in range(updates):
        start = step % run.steps_per_epoch * size
        shape = sum(run.begin[start : start + size], NOTHING)
        names = {name for some, stretches in run.units if any(step in one for one in stretches) for name in some}
        passes = shape.passes / found.depth if kept else shape.passes
        costs.append((shape.costs(training_cost(run, found, names, kept=kept)), passes))
    return costs


def _keeps_features(run: Subject, epoch: Shape) -> bool:
    """Whether what the base model computes is kept, as the run decides it."""
    bounds = run.features
    if bounds is None or run.recipe.sharding.world_size > 1 or run.recipe.regularizers:
        return False
    visits = run.rows * run.total_steps / run.steps_per_epoch
    hidden: int = getattr(run.model.config.get_text_config(), "hidden_size", 0)
    return visits > run.rows and epoch.places * hidden * FLOAT <= (bounds.memory_gb + bounds.disk_gb) * 1e9


def _trained(run: Subject) -> int:
    """Parameters that train in some update."""
    names = {
        name for some, stretches in run.units if any(one.start < run.total_steps for one in stretches) for name in some
    }
    return sum(parameter.numel() for name, parameter in run.model.named_parameters() if name in names)


def _notes(run: Subject) -> list[str]:
    """What the figures leave out, in sentences."""
    notes: list[str] = []
    recipe, config = run.recipe, run.model.config.get_text_config()
    if recipe.regularizers:
        named = ", ".join(one.id() for one in recipe.regularizers)
        notes.append(f"operations and memory are without regularizers ({named})")
    if recipe.evaluation.samples or any(metric.generates for metric in recipe.evaluation.metrics):
        notes.append("answers that the model writes for samples and metrics are not counted")
    kinds: Sequence[str] = getattr(config, "layer_types", None) or ()
    if any("linear" in kind or "mamba" in kind or "conv" in kind for kind in kinds) or _recurrent(run.model):
        notes.append("recurrent layers count by their matrices alone: what their scan costs depends on the kernel")
    return notes


def _recurrent(model: PreTrainedModel) -> bool:
    words = ("mamba", "rwkv", "recurrent", "deltanet", "xlstm")
    return any(word in type(module).__name__.lower() for module in model.modules() for word in words)


# -- shapes --------------------------------------------------------------------------------------------------------


def _summed(shapes: Iterable[Shape]) -> tuple[Shape, Shape, list[Shape]]:
    """All of them together, the one with most slots, and the first few; each is looked at and forgotten."""
    total, largest = NOTHING, NOTHING
    begin: list[Shape] = []
    for shape in shapes:
        total += shape
        largest = shape if shape.slots > largest.slots else largest
        if len(begin) < BEGIN:
            begin.append(shape)
    return total, largest, begin


def _shapes(recipe: Recipe, planned: Any, attention: str) -> tuple[Iterator[Shape], Shape, int]:
    """Micro-batches of an epoch, an evaluation, and how many rows are learned from."""
    (learned, plan), *measured = planned
    evaluation = (shape for rows, groups in measured for shape in _planned(recipe, rows, groups, attention))
    return _planned(recipe, learned, plan, attention), sum(evaluation, NOTHING), len(learned)


def _planned(recipe: Recipe, rows: Any, plan: Any, attention: str) -> Iterator[Shape]:
    """Micro-batches of rows, one by one."""
    lengths: Sequence[int] = rows.lengths
    share = sum(part.label_tokens for part in getattr(rows, "datasets", [rows])) / max(1, sum(lengths))
    level, flat = recipe.task.learns, "flash" in attention and recipe.batching.id() == "packed"
    everywhere = level == "word" or (isinstance(recipe.task, SupervisedFineTuning) and recipe.task.places == "all")
    for groups in plan:
        widths = [sum(lengths[row] for row in group) for group in groups]
        tokens, width = sum(widths), max(widths)
        slots = tokens if flat else width * len(widths)
        pairs = sum(lengths[row] ** 2 for group in groups for row in group) if flat else width * width * len(widths)
        places = slots if everywhere else sum(map(len, groups)) if level in ("row", "number") else share * tokens
        yield Shape(slots, places, pairs, tokens, 1)


def _uniform(recipe: Recipe, rows: int, tokens: int, learned: float) -> Iterator[Shape]:
    """Rows that are all of one length; where they are packed, as many in a sequence as fit."""
    together = max(1, recipe.batching.max_length // tokens) if recipe.batching.id() == "packed" else 1
    length, sequences = together * tokens, -(-rows // together)
    size = recipe.micro_batch
    place = 1.0 / length if recipe.task.learns in ("row", "number") else learned
    for start in range(0, sequences, size):
        slots = min(size, sequences - start) * length
        yield Shape(slots, slots * place, slots * length, slots, 1)


def _attention(model: PreTrainedModel) -> str:
    return getattr(model.config, "_attn_implementation", None) or "eager"
