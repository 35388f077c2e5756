"""An update: the optimizer, its rate over the run, and what pulls the weights towards where they started."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from fttool.contracts.strategy import Context, Place, Strategy
from fttool.contracts.task import MicroBatch, Predictions

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.contracts.layers import Layers


@dataclass(frozen=True, kw_only=True)
class OptimizerContext(Context):
    """What an optimizer strategy gets."""

    device: torch.device
    """That the weights are on."""
    unfused: bool
    """True where a fused step must not be used (loss scaling hands it scaled gradients)."""
    sharded: bool = False
    """True where parameters may be held in shares (torch's `DTensor`, or DeepSpeed's flat partitions)."""


@dataclass(frozen=True, kw_only=True)
class OptimizerParts:
    """A torch optimizer class and its options, apart from the parameter groups, which core makes."""

    optimizer_class: type[torch.optim.Optimizer]
    """Made over the parameter groups, each of which has its `lr` and `weight_decay`."""
    options: Mapping[str, Any]
    """What else it is made with: `betas`, `eps` …"""
    group_keys: Callable[[str, Tensor, Layers], Mapping[str, Any]] | None = None
    """Name, parameter and the model's layers → more keys of the parameter's group, such as the rule that updates it;
    parameters with other keys are in other groups. `lr` among them takes the place of the recipe's."""


class Optimizer(Strategy):
    """The rule that turns a gradient into an update."""

    family = "optimizer"
    place = Place("optimizer", default="adamw")

    lr: Annotated[float, Field(gt=0, lt=10)] = 2e-5
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay towards 0 per update and unit of learning rate; norms and biases (one-dimensional parameters) get none."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this global norm; 0 turns clipping off."""

    @abstractmethod
    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield the optimizer's class and options."""


@dataclass(frozen=True, kw_only=True)
class ScheduleContext(Context):
    """What a schedule gets."""

    total_steps: int
    """Updates in the whole run."""
    lr: float
    """The optimizer's peak rate, to turn an absolute floor into a factor."""


Factor: TypeAlias = Callable[[int], float]
"""update (from 0) → factor of the peak rate; clamped past the end of the run."""


class Schedule(Strategy):
    """The learning rate over the run, as a factor of each group's rate.

    Updates count whether loss scaling skips them or not: the rate of an update depends on its number alone.

    A run may be made longer from any checkpoint up to which its factors are those that the longer run has; a stretch in
    which the factor is 1 is its stable phase, from which `fttool decay` can branch off.
    """

    family = "schedule"
    place = Place("schedule", default="cosine")

    @abstractmethod
    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield a pure function from the update's number to the factor."""


@dataclass(frozen=True, kw_only=True)
class RegularizerContext(Context):
    """What a regularizer gets."""

    model: PreTrainedModel
    """As it was loaded, before the first update."""
    layers: Layers
    """Where its parameters stand."""
    total_steps: int
    """Updates in the whole run."""
    trained: frozenset[str]
    """Names of the parameters that train in some update."""
    new: frozenset[str]
    """Names of the parameters that the model's source does not give: a new head, or what freezing has added."""
    run_dir: Path
    """The run directory: not there yet while the regularizer is built, there when what it built is called."""
    writes: bool = True
    """True in the process that writes files, of several that make a run."""
    score: Callable[[PreTrainedModel, Mapping[str, Tensor]], Predictions]
    """The task's: model and micro-batch → predictions."""
    items: Callable[[Mapping[str, Tensor]], int]
    """The task's: micro-batch → how many predictions are made of it."""
    general: Callable[[str | None], Sequence[Mapping[str, Tensor]]]
    """Name of a `[[data.general]]` dataset, or None for all of them → its rows as micro-batches of one, each made when
    it is asked for, on the model's device; raises `RecipeError` where there is none."""
    general_batch: Callable[[str | None, Sequence[int]], Mapping[str, Tensor]]
    """The same name, and numbers of rows → these rows in one micro-batch, on the model's device."""
    start: Callable[[], Mapping[str, Tensor]]
    """The weights as they were loaded, by parameter name, without those in `new`: read again from the source, so that
    no second copy of them is held while the model trains. Those of a model in `DTensor`s are shared alike; others lie
    in the machine's memory, and may have to be moved to the weight's device."""
    start_model: Callable[[str | None], PreTrainedModel]
    """Number format of weights (`bfloat16` …), or None for the run's → the model as it was loaded, read again from the
    source, in evaluation mode and frozen, in the machine's memory. Each process has all of it, whatever the sharding. A
    head that is in `new` is initialised anew, and says nothing."""


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull of each weight towards where it started: the gradient coefficient·(θ − θ₀), or coefficient·F·(θ − θ₀)."""

    coefficient: Callable[[str], float]
    """Parameter name → coefficient; 0 leaves it alone."""
    decoupled: bool = False
    """False: added to the (clipped) gradient. True: θ −= lr·coefficient·(θ − θ₀), beside the optimizer's own step."""
    towards: Literal["start", "zero"] = "start"
    """θ₀: the weight before the first update, or 0."""
    importance: Callable[[], Mapping[str, Tensor]] | None = None
    """F ≥ 0 by parameter name, in the parameter's shape, for a pull towards the start; a name that is missing is not
    pulled. Called once before the first update, outside of autocast, and not where a run resumes."""


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """What a regularizer yields: any of these."""

    pulls: Sequence[Pull] = ()
    """Act on the weights in the optimizer's step, after clipping."""
    modify: Callable[[PreTrainedModel], None] | None = None
    """Changes modules in place, once, before the optimizer is made."""
    loss: Callable[[PreTrainedModel, MicroBatch, Predictions], Tensor] | None = None
    """The model as the engine has wrapped it, a micro-batch and what the model said of it → a scalar to learn by beside
    the task's loss: a mean over the micro-batch's `items`. An update's is the mean over all of its items, whatever its
    micro-batches; under the strategy's id it has a key of its own in `metrics.jsonl`, beside `loss`."""
    items: Callable[[MicroBatch], int] | None = None
    """Micro-batch → how many items its `loss` is a mean of, 0 or more; default: those of the task's loss."""
    memory: int = 0
    """Bytes that it holds in each process, unsharded and beside the optimizer's state, for the estimate of memory."""
    after_update: Callable[[PreTrainedModel, int], None] | None = None
    """Called after each update with the number of updates done."""
    final_weights: Callable[[Iterable[tuple[str, Tensor]]], None] | None = None
    """Changes the weights in place, once, before the final model is evaluated and saved; they come by name, one after
    the other, and each can be read and changed until the next one is asked for."""
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Option → the file that it names: `lock.json` notes its hash, and a resumed run needs the same."""


class Regularizer(Strategy):
    """What keeps the model near what it knew."""

    family = "regularizer"
    place = Place("regularizers", default=None, many=True)

    @property
    def watches_weights(self) -> bool:
        """True where it looks at the weights after each update, see `Regularization.after_update`."""
        return False

    @property
    def sets_final_weights(self) -> bool:
        """True where it changes the final weights, see `Regularization.final_weights`."""
        return False

    @property
    def uses_general(self) -> bool:
        """True where it asks for general rows, see `RegularizerContext.general`; rows that nothing reads are said."""
        return False

    @abstractmethod
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield pulls on the weights, a change of modules, a loss term, or functions after updates and at the end."""
