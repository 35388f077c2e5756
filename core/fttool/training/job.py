"""What a run's loop is given: plain values and functions, and no Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Example
from fttool.contracts.sharding import ShardingPlan
from fttool.contracts.task import Losses, Measure
from fttool.rows.loader import Batching
from fttool.rows.rows import Rows
from fttool.training.evaluation import Score
from fttool.training.formats import Formats
from fttool.training.passes import InPasses
from fttool.training.progress import Progress
from fttool.training.proof import Proven
from fttool.training.update import Update
from fttool.watch.watch import Watch
from fttool.world import World

KeepFeatures = Callable[[Any, Watch, Callable[[], bool], InPasses], None]
"""Given the model, whom to tell, whether to stop, and how a micro-batch goes through it."""


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How the model is measured."""

    measures: Mapping[str, Measure]
    """The recipe's metrics by id."""
    answers: Callable[[], list[str]]
    """The model's present answers to the sampled evaluation prompts."""
    ask: Callable[[Sequence[Example]], Sequence[str]]
    """Evaluation rows → the model's present answers to their prompts, for metrics that look at answers."""
    asked_examples: Sequence[Example]
    """The rows that are asked for those."""


@dataclass(kw_only=True)
class Output:
    """What a run writes of its model and state."""

    checkpoints: Path
    """The folder that receives them."""
    formats: Formats
    """Of the weights in the saved model."""
    stateful: Mapping[str, Any]
    """Objects with `state_dict`, by their place in the recipe."""
    saves: bool = True
    """False: neither checkpoints nor the model are written."""
    trusts: bool = False
    """True where the user vouches for what checkpoints hold, code included."""
    vouched: set[Path] = field(default_factory=set[Path])
    """Checkpoints that this run has written, or found to be its user's own."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Hashes of the saved model's files, by their path in the run directory."""


@dataclass(kw_only=True)
class Job:
    """Everything the loop needs, as plain values and functions."""

    recipe: Recipe
    world: World
    watch: Watch
    """Told what happens."""
    rows: Rows
    batching: Batching
    update: Update
    stable: range
    """Steps of the stable phase, see `rates.stable_phase`."""
    score: Score
    learn: Callable[[Any, Mapping[str, Any]], Losses]
    """What is learned by; the score itself, or the same part by part."""
    items: Callable[[Mapping[str, torch.Tensor]], int]
    """How many a micro-batch counts in the loss of its update."""
    measuring: Measuring
    output: Output
    keep_features: KeepFeatures | None = None
    """Computes once what a base model computes that never trains."""
    plan: ShardingPlan
    prove: Callable[[], Sequence[Mapping[str, int]]]
    """Bytes that each process holds; raises where the sharding that was asked for is not on."""
    held: Sequence[Mapping[str, int]] = ()
    """What it found last."""
    proof: Callable[[], Proven]
    """Proves on the model, as it is now, what its batches assume of it."""
    progress: Progress = field(default_factory=Progress)
    asked: int | None = None
    """SIGINT or SIGTERM, once it has come to this process."""
    signal: int | None = None
    """The one that the run obeys: it saves and stops after the current update, in all of its processes."""
