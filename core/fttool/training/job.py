"""What a run's loop is given, and what it counts: plain values and functions, and no Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fttool.contracts.sharding import ShardingPlan
from fttool.contracts.task import Measure
from fttool.contracts.update import Factor, Regularization
from fttool.observers import Observers
from fttool.recipe.tables import Recipe
from fttool.rows.data import Rows
from fttool.rows.loader import EpochLoader
from fttool.runs.record import Record
from fttool.runs.screen import Screen
from fttool.runs.tracking import Trackers
from fttool.training.evaluation import Score
from fttool.training.features import Backbone
from fttool.training.formats import Formats
from fttool.training.groups import Group
from fttool.training.proof import Proven
from fttool.training.world import World


@dataclass
class Progress:
    """What core counts over a run; saved with each checkpoint."""

    train_tokens: int = 0
    """Tokens seen, padding not counted."""
    label_tokens: int = 0
    """Labels learned."""
    seconds: float = 0.0
    """Time spent in updates, without evaluation and saving."""
    fits: dict[str, int] = field(default_factory=dict[str, int])
    """Sequences that go through the model at once, where memory ran out on more: in `training`, `evaluation` and for
    `features`."""
    met_rows: list[int] = field(default_factory=list[int])
    """Rows seen of each dataset that is learned from."""
    met_tokens: list[int] = field(default_factory=list[int])
    """Tokens seen of each of them."""
    proof: dict[str, Any] = field(default_factory=dict[str, Any])
    """Figures of the proof before the first update."""
    before: dict[str, float] = field(default_factory=dict[str, float])
    """Metrics before the first update."""
    retention_before: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Metrics on each retention dataset before the first update."""
    answers_before: list[str] = field(default_factory=list[str])
    """The model's answers to the sampled evaluation prompts before the first update."""
    answers_after: list[str] = field(default_factory=list[str])
    """And those of the final model."""
    latest: dict[str, float] = field(default_factory=dict[str, float])
    tables: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the latest evaluation has to say beside its numbers."""
    retention_latest: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    latest_step: int = 0
    best: float | None = None
    best_step: int | None = None
    """0 where no update has made the model better than it was before the first."""
    worse_in_a_row: int = 0
    stopped_early: bool = False
    skipped: int = 0
    """Updates that loss scaling skipped."""
    skipped_in_a_row: int = 0
    logged_step: int = 0
    """The last update of which a line was logged."""
    unlogged_loss: float = 0.0
    """Sum of the losses since then, for the next line."""
    unlogged_terms: dict[str, float] = field(default_factory=dict[str, float])
    """And of the terms beside them."""


@dataclass(kw_only=True)
class Job:
    """Everything the loop needs, as plain values and functions."""

    recipe: Recipe
    rows: Rows
    loader: EpochLoader
    eval_batches: Callable[[], Any]
    retention_batches: Mapping[str, Callable[[], Any]]
    score: Score
    items: Callable[[Mapping[str, torch.Tensor]], int]
    """How many a micro-batch counts in the loss of its update."""
    measures: Mapping[str, Measure]
    groups: Sequence[Group]
    make_optimizer: Callable[[], torch.optim.Optimizer]
    factor: Factor
    stable: range
    """Steps of the stable phase, see `rates.stable_phase`."""
    regularizations: Sequence[Regularization]
    stateful: Mapping[str, Any]
    """Objects with `state_dict`, by their place in the recipe."""
    record: Record
    observers: Observers
    trackers: Trackers
    screen: Screen
    world: World
    answers: Callable[[], list[str]]
    """The model's present answers to the sampled evaluation prompts."""
    backbone: Backbone | None = None
    """The base model, where it never trains."""
    plan: ShardingPlan
    formats: Formats
    """Of the weights in the saved model."""
    prove: Callable[[], Sequence[Mapping[str, int]]]
    """Bytes that each process holds; raises where the sharding that was asked for is not on."""
    held: Sequence[Mapping[str, int]] = ()
    """What it found last."""
    trusts: bool = False
    """True where the user vouches for what checkpoints hold, code included."""
    vouched: set[Path] = field(default_factory=set[Path])
    """Checkpoints that this run has written, or found to be its user's own."""
    proof: Callable[[], Proven]
    """Proves on the model, as it is now, what its batches assume of it."""
    saves: bool = True
    """False: neither checkpoints nor the model are written."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Hashes of the saved model's files, by their path in the run directory."""
    progress: Progress = field(default_factory=Progress)
    asked: int | None = None
    """SIGINT or SIGTERM, once it has come to this process."""
    signal: int | None = None
    """The one that the run obeys: it saves and stops after the current update, in all of its processes."""
