"""The machine: number formats, how a run is spread over processes, and what one of them holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from fttool.contracts.strategy import Context, Place, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, Trainer


@dataclass(frozen=True, kw_only=True)
class PrecisionContext(Context):
    """What a precision strategy gets: what the hardware has."""

    device: torch.device
    """That the run computes on."""
    native_bf16: bool
    """True where the hardware computes in bfloat16 without emulation."""


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Number formats of a run."""

    autocast: Literal["no", "bf16", "fp16"]
    """The format of the forward and backward pass; fp16 comes with dynamic loss scaling."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """The format of the weights and so of the optimizer's state."""
    reason: str
    """Why this was chosen, for the log."""


class Precision(Strategy):
    """Number formats of weights and computation."""

    family = "precision"
    place = Place("precision", default="auto")

    @property
    def half_weights(self) -> bool:
        """True where the weights that train are in 16 bits."""
        return False

    @abstractmethod
    def build(self, ctx: PrecisionContext) -> Numerics:
        """Yield the number formats."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What one process would hold if nothing were sharded, in bytes, and what there is for it. An estimate."""

    weights: int
    """All of the model's, in the format that it is trained in."""
    gathered: int
    """All weights in the format of the computation: what a process gathers that holds a share of them."""
    copies: int
    """The 16-bit copies of float32 weights that autocast keeps for a backward pass, of those that it goes through."""
    gradients: int
    """Of what trains."""
    optimizer: int
    """Its state, anchors of pulls included."""
    unit: int
    """Weights of the largest layer, or of all that stands outside of layers, in the computation's format: so much is
    gathered at once where each layer is gathered by itself."""
    activations: int
    """What the forward pass of the largest micro-batch keeps for the backward pass, and its logits."""
    regularizers: int = 0
    """What regularizers hold in full in each process, such as the model that training started from."""
    device: int
    """Memory of a process's device; on a CPU its share of the machine's."""

    @property
    def total(self) -> int:
        """All that is held, as one number."""
        return self.weights + self.copies + self.gradients + self.optimizer + self.activations + self.regularizers


@dataclass(frozen=True, kw_only=True)
class ShardingContext(Context):
    """What a sharding strategy gets."""

    device: torch.device
    """That this process computes on."""
    numerics: Numerics = Numerics(autocast="no", reason="float32")
    """What the precision strategy has yielded."""
    layer_classes: frozenset[str] = frozenset()
    """Names of the classes of the model's layers; empty where no model was loaded."""
    varies: bool = False
    """True where what trains changes during the run."""
    trained: int | None = None
    """Parameters that train in some update; None where no model was loaded."""
    memory: Callable[[], Memory] | None = None
    """Estimates what the run holds; None where no model was loaded."""


def _by_name(trainer: Trainer, tensors: Mapping[str, Tensor]) -> Mapping[Tensor, Tensor]:
    by_name = dict(cast("Any", trainer).model.named_parameters())
    return {by_name[name]: values for name, values in tensors.items()}


def _named(model: PreTrainedModel) -> Iterable[tuple[str, Tensor]]:
    return model.named_parameters()


@dataclass(frozen=True, kw_only=True)
class ShardingPlan:
    """How the run is spread over processes."""

    processes: int
    """World size."""
    reason: str = ""
    """Why it is this plan, where the strategy had a choice: for the log."""
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More `TrainingArguments` (the engine's own options)."""
    engage: Callable[[Trainer], None] | None = None
    """Called once the Trainer has its accelerator and before it has prepared anything."""
    split: Callable[[PreTrainedModel], None] | None = None
    """Called when training begins, before the engine takes over the model, where it would first put all of it on each
    device: leaves this process its share."""
    placed: Callable[[Trainer, Mapping[str, Tensor]], Mapping[Tensor, Tensor]] = _by_name
    """Trainer, and one tensor for each of some parameters → what the optimizer holds → its part of these tensors."""
    weights: Callable[[PreTrainedModel], Iterable[tuple[str, Tensor]]] = _named
    """The final weights by name, each of which can be read and changed, in all processes alike, until the next one is
    asked for."""
    masters: Callable[[Trainer], Iterable[tuple[str, Tensor]]] | None = None
    """Given where the model holds copies of less precision than what is trained: the latter by name, each whole in all
    processes until the next one is asked for."""
    weights_apart: bool = False
    """True where the model holds no weights between updates: no regularizer can look at them then."""
    shares: Callable[[PreTrainedModel], Iterable[tuple[str, Tensor]]] = _named
    """The weights by name between updates, of each the part that this process holds."""
    marker: str = "optimizer.pt"
    """Pattern of a file or folder that checkpoints of this kind have, and those of others lack."""
    reshards: bool = True
    """True where a checkpoint can be resumed in another number of processes."""
    code_in: Callable[[Path], str] | None = None
    """Given where the engine reads a checkpoint of this kind as pickles, which can hold code: a checkpoint's folder →
    which file holds more than data, and what; empty if none does. It is asked of what this user has not written; where
    it finds something, the checkpoint is read only with `--trust-checkpoint`."""
    prove: Callable[[Trainer], Mapping[str, int]]
    """Bytes that this process holds: `parameter_bytes`, `gradient_bytes`, `optimizer_bytes`. Asked of each, after the
    first update and after the last; raises `FttoolError` where the sharding is not on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The processes that a run wants."""

    processes: int = 1
    """Over which a global batch is spread, on all machines together."""
    nodes: int = 1
    """Machines, with the same number of processes on each."""
    max_restarts: int = 0
    """How often all processes are started again, from the newest checkpoint, after one of them has died."""


class Sharding(Strategy):
    """How parameters, gradients and optimizer state are spread over processes."""

    family = "sharding"
    place = Place("sharding", default="none")

    @property
    def sharded(self) -> bool:
        """True where the engine holds the weights or the optimizer's state in shares, or may do so.

        It then fixes them at the start, so groups that wait for their turn have state from the first update on.
        """
        return False

    @property
    def flat(self) -> bool:
        """True where an optimizer is handed flat pieces of weights, that have no rows and columns any more."""
        return False

    @property
    def launch(self) -> Launch:
        """What to start; known from the recipe alone."""
        return Launch()

    @property
    def world_size(self) -> int:
        """Processes over which a global batch is spread: a short word for what `launch` says."""
        return self.launch.processes

    @abstractmethod
    def build(self, ctx: ShardingContext) -> ShardingPlan:
        """Yield the launch plan."""
