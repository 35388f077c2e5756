"""The families of strategies: one base class and one context a family, and what `build` yields.

A strategy is a frozen pydantic model. Its fields are its options, its `name` literal is its id, its docstrings are its
documentation and the schema's. `build(ctx)` turns it into plain functions or objects that never see the recipe; what
they return may have `state_dict`/`load_state_dict`, which core saves and restores with each checkpoint.

Contexts are keyword-only and frozen; fields are only ever added. Nothing here imports torch at run time, so a recipe
is validated without it: a strategy imports torch inside `build`.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, cast

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fttool.described import Described
from fttool.errors import Problem

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

    from fttool.recipe.tables import Recipe
    from fttool.training.layers import Layers

Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""A share between 0 and 1."""


def _whole_steps(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise PydanticCustomError("whole_steps", "Input should be a share below 1, or a whole number of steps")
    return value


ShareOrSteps: TypeAlias = Annotated[float, Field(ge=0), AfterValidator(_whole_steps)]
"""A share of the run below 1, a whole number of steps from 1 on."""
PositiveShareOrSteps: TypeAlias = Annotated[float, Field(gt=0), AfterValidator(_whole_steps)]
"""The same, for what cannot have length 0."""

Level: TypeAlias = Literal["token", "row"]
"""What is learned of a row: its tokens, or its classes as a whole."""


def to_steps(share_or_steps: float, total: int) -> int:
    """Steps of a `ShareOrSteps` in a run of `total`: `ceil(share × total)` below 1, the number itself from 1 on."""
    if share_or_steps >= 1:
        return int(share_or_steps)
    product = share_or_steps * total
    nearest = round(product)
    if abs(product - nearest) < 1e-9 * max(total, 1):  # 0.1 × 30 is 3.0000000000000004
        return nearest
    return int(product) + 1


def _require_name(schema: dict[str, Any]) -> None:
    """A default alone would leave `name` optional in the schema, though the discriminator demands it."""
    if "name" in schema.get("properties", {}):
        schema["required"] = ["name", *(key for key in schema.get("required", []) if key != "name")]


class Strategy(Described):
    """What every strategy is: options in, functions out."""

    model_config = ConfigDict(json_schema_extra=_require_name)

    family: ClassVar[str]
    """The family's name; set by the family's base class."""
    level: ClassVar[Level | None] = None
    """What of a row it is about; None where it serves both. A recipe's strategies must agree with its task."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """What in this recipe cannot go together with this strategy; run by `fttool validate`, before a model loads.

        A problem's `key` is relative to the recipe's root, e.g. `("schedule", "warmup")`.
        """
        return ()

    @classmethod
    def id(cls) -> str:
        """The strategy's id: the value of its `name` literal."""
        return str(cls.model_fields["name"].default)


# -- rows ---------------------------------------------------------------------------------------------------------

Message: TypeAlias = Mapping[str, Any]
"""One turn as the chat template sees it: `role`, `content`, and what else the template knows (`tool_calls` …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row, whatever its format was: a conversation (`messages`), plain text (`prompt` + `completion`), or text with
    its classes (`prompt`, `second`, `labels`).
    """

    origin: str
    """`file:line`, for messages to people."""
    messages: tuple[Message, ...] = ()
    """The turns of a conversation; empty for plain text."""
    completion_from: int = 0
    """Index of the first turn that belongs to the completion; the turns before it are the prompt."""
    prompt: str = ""
    """Plain text that is read and not learned."""
    completion: str = ""
    """Plain text that is learned; the whole of a `text` row."""
    template: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More for the chat template: `tools`, `documents`, `enable_thinking` …"""
    second: str = ""
    """The second text of a row about two, e.g. a hypothesis beside its premise; only with `labels`."""
    labels: tuple[str, ...] | None = None
    """Names of the row's classes; None for a row without classes, which is not the same as none of them."""
    unlearned: frozenset[int] = frozenset()
    """Indices of turns that are read and not learned, whoever speaks and whatever the masking: the rows say so."""

    def answer(self) -> str:
        """The text by which a row is judged: what a model is asked to learn of it (the completion, or the assistant's
        turns joined by blank lines, but for those that are not learned); of a row with classes, its text.
        """
        if self.labels is not None:
            return f"{self.prompt}\n\n{self.second}" if self.second else self.prompt
        if not self.messages:
            return self.completion
        learned = [turn for index, turn in enumerate(self.messages) if index not in self.unlearned]
        return "\n\n".join(str(m.get("content") or "") for m in learned if m.get("role") == "assistant")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row in tokens."""

    input_ids: list[int]
    """Token ids, shape (T,)."""
    labels: list[int]
    """Shape (T,): the token's own id where it is learned, −100 elsewhere (not shifted)."""
    classes: tuple[str, ...] | None = None
    """Names of the row's classes, where those are learned and not its tokens."""
    token_types: list[int] | None = None
    """Shape (T,): which of two texts each token is of, for models that tell them apart."""
    cut: bool = False
    """True where the row is longer and masking itself has cut it."""
    turns: tuple[int, ...] = ()
    """Indices of the messages that are learned, in their order; empty where masking does not go by turns."""
    remarks: tuple[str, ...] = ()
    """What people should know of the row, in words that follow a count of rows: `teaching an empty thought`."""
    literal: bool = False
    """True where text that reads like a control token was encoded as text: it is compared with no prompt of inference,
    which may read the token in it."""


@dataclass(frozen=True, kw_only=True)
class FormatContext:
    """What a format gets."""

    origin: str
    """The file's or dataset's name."""
    note: Callable[[str], None] = lambda _: None
    """Counts what the format does to a row that its author should know, by a few words: "leading turn left out"."""


RowReader: TypeAlias = Callable[[Mapping[str, Any], str], Example]
"""(raw row, its origin `file:line`) → Example; raises `ValueError` with a sentence for a bad row."""


class Format(Strategy):
    """How a raw row becomes an `Example`."""

    family: ClassVar[str] = "format"
    level: ClassVar[Level | None] = "token"

    @abstractmethod
    def build(self, ctx: FormatContext) -> RowReader:
        """Yield a function from a raw row and its origin to an `Example`; it raises `ValueError` for a bad row."""


@dataclass(frozen=True, kw_only=True)
class FilterContext:
    """What a filter gets."""

    seed: int


RowFilter: TypeAlias = Callable[[Sequence[Example]], Sequence[str | None]]
"""Examples → one entry each: None keeps the row, a short reason drops it."""


class Filter(Strategy):
    """Which rows are kept. Filters apply in the order of the recipe."""

    family: ClassVar[str] = "filter"

    @abstractmethod
    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a function from examples to one entry each: None keeps the row, a short reason drops it."""


@dataclass(frozen=True, kw_only=True)
class MixingContext:
    """What a mixing strategy gets."""

    sizes: Sequence[int]
    """Rows of each training dataset, in the recipe's order; row i of dataset d has index sum(sizes[:d]) + i."""
    tokens: Sequence[int]
    """Tokens of each training dataset."""
    seed: int
    names: Sequence[str] = ()
    """The training datasets' names."""
    general_sizes: Sequence[int] = ()
    """Rows of each general dataset, for a strategy that replays them: row i of dataset d has index sum(sizes) +
    sum(general_sizes[:d]) + i. Empty for others."""
    lengths: Sequence[int] = ()
    """Tokens of each row, after truncation: the training rows, then the general ones."""


RowOrder: TypeAlias = Callable[[int], Sequence[int]]
"""epoch (from 0) → the row indices of that epoch in the order in which they are met; the same length every epoch."""


class Mixing(Strategy):
    """How several datasets become one stream of rows."""

    family: ClassVar[str] = "mixing"

    @property
    def uses_general(self) -> bool:
        """True where general rows are replayed; else they stay out of training, and out of the context."""
        return False

    @property
    def same_rows(self) -> bool:
        """True where every epoch has the same rows, in whatever order; some batching strategies need that."""
        return True

    @abstractmethod
    def build(self, ctx: MixingContext) -> RowOrder:
        """Yield a pure function from the epoch to its row indices, shuffled by the seed."""


@dataclass(frozen=True, kw_only=True)
class MaskingContext:
    """What a masking strategy gets."""

    tokenizer: PreTrainedTokenizerBase
    """With the chat template the recipe asked for."""
    max_length: int | None = None
    """Tokens that batching leaves of a row. It cuts longer ones at the end; a masking strategy may cut better."""


class TemplateFault(ValueError):  # noqa: N818 (a fault of the template, as a ValueError is one of the row)
    """Raised for a row that the chat template writes wrong: no change of the row would help, another template would."""


RowEncoder: TypeAlias = Callable[[Example], Encoded]
"""Example → tokens and labels; raises `ValueError` with a sentence where no right mask can be found, `TemplateFault`
where the chat template is to blame for that and not the row."""


class Masking(Strategy):
    """Which tokens of a row are learned, or which classes."""

    family: ClassVar[str] = "masking"
    level: ClassVar[Level | None] = "token"

    def split(self, example: Example) -> Sequence[Example]:
        """The rows that an example becomes, in order; the encoder gets each of them. By default it stays one.

        Each has an `origin` of its own (`file:line#3`), and as `completion_from` the first turn that it teaches.
        """
        return (example,)

    @abstractmethod
    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield a function from an `Example` to its tokens and labels."""


@dataclass(frozen=True, kw_only=True)
class BatchingContext:
    """What a batching strategy gets."""

    lengths: Sequence[int]
    """Tokens of each row, after truncation."""
    micro_batch: int
    """Sequences per forward pass and process."""
    global_batch: int
    """Sequences per update, over all processes and accumulation steps."""
    pad_id: int
    seed: int
    attention: str = "eager"
    """transformers' attention implementation of the model: `sdpa`, `flash_attention_2` …"""


RowGroup: TypeAlias = Sequence[int]
"""The rows that share one sequence: one row, or several when packed."""


class Batches(Protocol):
    """What a batching strategy yields."""

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """The micro-batches of one epoch: each a list of at most `micro_batch` sequences.

        Consecutive `global_batch / micro_batch` micro-batches are one update. The same number every epoch.
        """
        ...

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Any]:
        """One micro-batch (B sequences of one or more rows) as tensors (B, T): `input_ids`, `labels` (the first
        token of each row is −100, as nothing predicts it), and `attention_mask` or `position_ids`.

        Or all of its rows as one sequence, (1, N) for N tokens, with what an attention of variable length asks for:
        `position_ids`, `cu_seq_lens_q`, `cu_seq_lens_k`, `max_length_q`, `max_length_k`, as transformers names them.
        """
        ...


class Batching(Strategy):
    """How rows become micro-batches."""

    family: ClassVar[str] = "batching"

    max_length: Annotated[int, Field(ge=2)] = 1024
    """Longest sequence, in tokens."""
    too_long: Literal["truncate", "drop"] = "truncate"
    """What becomes of a row of more than `max_length` tokens: cut off at the end, or dropped; counted either way."""

    @property
    def needs_same_rows(self) -> bool:
        """True where the number of micro-batches depends on which rows an epoch has, not only on how many."""
        return False

    @abstractmethod
    def build(self, ctx: BatchingContext) -> Batches:
        """Yield the sampler and collator in one object."""


# -- the model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SourceContext:
    """What a model source gets."""

    folder: Path
    """The recipe's folder; relative paths start here."""
    trust_remote_code: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How the model is to be loaded."""

    model_class: Any
    """The task's transformers class, e.g. `AutoModelForCausalLM`."""
    dtype: torch.dtype
    """Of the weights."""
    attention: str | None
    """transformers' `attn_implementation`."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values of the model's configuration that the task sets, e.g. `id2label`."""
    drawn: set[str] = field(default_factory=set[str])
    """A source adds the names of parameters that its files lack and that it has drawn at random: a new head."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a model source yields: tokenizer first, since rows are prepared before the model is needed."""

    tokenizer: Callable[[], PreTrainedTokenizerBase]
    model: Callable[[LoadOptions], PreTrainedModel]
    origin: Mapping[str, str]
    """Where they came from (path, revision, file hash …), for `lock.json` and the model card."""
    stored: Callable[[], Mapping[str, str]] = dict
    """The format of each tensor in the files of its weights, by the tensor's name, as torch spells it (`bfloat16`);
    asked once the model is loaded. The final model is saved in it; where there is none, in the format that it was
    trained in. `stored_formats` reads those of a folder."""


class ModelSource(Strategy):
    """Where the model comes from. In a recipe, `"scheme:path"` means `{name = "scheme", path = "path"}`."""

    family: ClassVar[str] = "model"

    path: str
    """What follows the scheme: a hub id, folder, file, package or name."""

    def needs_network(self, folder: Path) -> bool:
        """True where loading may fetch something; `folder` is the recipe's. Core forbids the network otherwise."""
        return False

    @abstractmethod
    def build(self, ctx: SourceContext) -> Source:
        """Yield loaders for the tokenizer and the model."""


@dataclass(frozen=True, kw_only=True)
class FreezingContext:
    """What a freezing strategy gets."""

    model: PreTrainedModel
    layers: Layers
    total_steps: int
    steps_per_epoch: int
    seed: int
    new: frozenset[str] = frozenset()
    """Names of the parameters that the model's source does not give and that were drawn at random: a new head."""


Updates: TypeAlias = tuple[range, ...]
"""Stretches of updates (from 0), in order and apart from each other."""
ALWAYS: Updates = (range(sys.maxsize),)


def from_update(first: int) -> Updates:
    """Update `first` and all after it."""
    return (range(first, sys.maxsize),)


@dataclass(frozen=True, kw_only=True)
class ThawUnit:
    """Parameters that train in the same updates."""

    parameters: frozenset[str]
    """Names as in `model.named_parameters()`."""
    trains_in: Updates = ALWAYS
    """The updates that change them. In others they have no gradient: they count in no norm, and nothing pulls them."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """How much may be kept of what the base model computes, so that it runs once per row and not once per epoch."""

    memory_gb: float
    """Up to this size in memory, in GB of 10⁹ bytes."""
    disk_gb: float
    """What is beyond, up to this size, in a file of the run directory; beyond both, nothing is kept."""


@dataclass(frozen=True, kw_only=True)
class Thawing:
    """What a freezing strategy yields."""

    units: Sequence[ThawUnit]
    """A parameter in none of them never trains."""
    features: Features | None = None
    """Given where nothing in the base model (`model.base_model`) is to train: it then stays in evaluation mode, without
    dropout, and what it computes of the training rows is kept."""
    export: Callable[[PreTrainedModel, Path], None] | None = None
    """Called once with the final weights and the run directory, before the model is saved: may write files there, and
    change modules in place, so that plain transformers can load what is saved."""


class Freezing(Strategy):
    """Which parameters train, and when."""

    family: ClassVar[str] = "freezing"

    @property
    def extendable(self) -> bool:
        """False where the units of a longer run differ in its earlier updates: a resumed run cannot be made longer."""
        return True

    @property
    def adapts(self) -> bool:
        """True where the model's own weights stay as they are, and others train that are added beside them."""
        return False

    @property
    def trains_matrices(self) -> bool:
        """False where no matrix of a layer ever trains."""
        return True

    @abstractmethod
    def build(self, ctx: FreezingContext) -> Thawing:
        """Yield the thaw units; may add parameters to the model: core looks for its layers again afterwards."""


@dataclass(frozen=True, kw_only=True)
class LayerRatesContext:
    """What a layer-rates strategy gets."""

    model: PreTrainedModel
    layers: Layers


class LayerRates(Strategy):
    """The learning rate of each parameter, as a factor of the optimizer's `lr`."""

    family: ClassVar[str] = "layer_rates"

    @abstractmethod
    def build(self, ctx: LayerRatesContext) -> Callable[[str], float]:
        """Yield a function from a parameter's name to its factor."""


# -- the update ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OptimizerContext:
    """What an optimizer strategy gets."""

    device: torch.device
    unfused: bool
    """True where a fused step must not be used (loss scaling hands it scaled gradients)."""
    sharded: bool = False
    """True where parameters may be held in shares (torch's `DTensor`, or DeepSpeed's flat partitions)."""


@dataclass(frozen=True, kw_only=True)
class OptimizerParts:
    """A torch optimizer class and its options, apart from the parameter groups, which core makes."""

    optimizer_class: type[torch.optim.Optimizer]
    options: Mapping[str, Any]
    group_keys: Callable[[str, Tensor, Layers], Mapping[str, Any]] | None = None
    """Name, parameter and the model's layers → more keys of the parameter's group, such as the rule that updates it;
    parameters with other keys are in other groups. `lr` among them takes the place of the recipe's."""


class Optimizer(Strategy):
    """The rule that turns a gradient into an update."""

    family: ClassVar[str] = "optimizer"

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
class ScheduleContext:
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

    family: ClassVar[str] = "schedule"

    @abstractmethod
    def build(self, ctx: ScheduleContext) -> Factor:
        """Yield a pure function from the update's number to the factor."""


_T = TypeVar("_T")


class Track(Protocol):
    """Shows a progress bar on a terminal."""

    def __call__(self, items: Sequence[_T], what: str) -> Iterable[_T]:
        """The items one by one; `what` is done to them, e.g. "weighing the weights on general rows"."""
        ...


@dataclass(frozen=True, kw_only=True)
class RegularizerContext:
    """What a regularizer gets."""

    model: PreTrainedModel
    layers: Layers
    total_steps: int
    trained: frozenset[str]
    """Names of the parameters that train in some update."""
    new: frozenset[str]
    """Names of the parameters that the model's source does not give: a new head, or what freezing has added."""
    seed: int
    folder: Path
    """The recipe's folder; relative paths start here."""
    run_dir: Path
    """The run directory: not there yet while the regularizer is built, there when what it built is called."""
    writes: bool = True
    """True in the process that writes files, of several that make a run."""
    score: Callable[[PreTrainedModel, Mapping[str, Tensor]], Predictions]
    """The task's: model and micro-batch → predictions."""
    general: Callable[[str | None], Sequence[Mapping[str, Tensor]]]
    """Name of a `[[data.general]]` dataset, or None for all of them → its rows as micro-batches of one, each made when
    it is asked for, on the model's device; raises `RecipeError` where there is none."""
    start: Callable[[], Mapping[str, Tensor]]
    """The weights as they were loaded, by parameter name, without those in `new`: read again from the source, so that
    no second copy of them is held while the model trains. Those of a model in `DTensor`s are shared alike; others lie
    in the machine's memory, and may have to be moved to the weight's device."""
    track: Track
    """Shows how far a long computation is."""


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
    modify: Callable[[PreTrainedModel], None] | None = None
    """Changes modules in place, once, before the optimizer is made."""
    loss: Callable[[PreTrainedModel], Tensor] | None = None
    """A scalar added to each update's loss."""
    after_update: Callable[[PreTrainedModel, int], None] | None = None
    """Called after each update with the number of updates done."""
    final_weights: Callable[[Iterable[tuple[str, Tensor]]], None] | None = None
    """Changes the weights in place, once, before the final model is evaluated and saved; they come by name, one after
    the other, and each can be read and changed until the next one is asked for."""
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Option → the file that it names: `lock.json` notes its hash, and a resumed run needs the same."""


class Regularizer(Strategy):
    """What keeps the model near what it knew."""

    family: ClassVar[str] = "regularizer"

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


@dataclass(frozen=True, kw_only=True)
class PrecisionContext:
    """What a precision strategy gets: what the hardware has."""

    device: torch.device
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

    family: ClassVar[str] = "precision"

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
    gathered: int
    """All weights in the format of the computation: what a process gathers that holds a share of them."""
    copies: int
    """The 16-bit copies of float32 weights that autocast keeps for a backward pass, of those that it goes through."""
    gradients: int
    optimizer: int
    """Its state, anchors of pulls included."""
    unit: int
    """Weights of the largest layer, or of all that stands outside of layers, in the computation's format: so much is
    gathered at once where each layer is gathered by itself."""
    activations: int
    """What the forward pass of the largest micro-batch keeps for the backward pass, and its logits."""
    device: int
    """Memory of a process's device; on a CPU its share of the machine's."""

    @property
    def whole(self) -> int:
        """All that is held, as one number."""
        return self.weights + self.copies + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True, kw_only=True)
class ShardingContext:
    """What a sharding strategy gets."""

    device: torch.device
    numerics: Numerics = Numerics(autocast="no", reason="float32")
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

    family: ClassVar[str] = "sharding"

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


# -- the task ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the model said of one micro-batch, of the N tokens or rows that are learned."""

    logits_NV: Tensor
    targets_N: Tensor
    """Of tokens and classes (N,) their ids; where a row may have several classes, 0 or 1 for each of them, (N, V)."""
    losses_N: Tensor
    """Cross-entropy in nats, float32. A task may give another loss while `model.training`: that is what is learned by,
    and metrics are measured in evaluation mode."""
    terms: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    """More to learn by, while `model.training`: scalars by name, each a mean over the micro-batch's tokens, learned or
    not and without padding. An update's term is the mean over all of its tokens; each has a key of its own in
    `metrics.jsonl`, beside `loss`."""


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """What a task gets."""

    label_counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Training rows of each class, by its name; empty where rows have no classes."""
    rows: int = 0
    """Training rows; 0 where none are read, as the model's class alone is wanted."""
    masking: Masking | None = None
    """How rows become tokens, for a task that is asked with texts of its own."""


def learned_tokens(batch: Mapping[str, Tensor]) -> int:
    """Labels of a micro-batch that are learned."""
    return int(batch["labels"].ne(-100).sum())


@dataclass(frozen=True, kw_only=True)
class TaskParts:
    """What a task yields: the model's class, a Trainer class, and how a micro-batch is scored."""

    model_class: Any
    trainer_class: type[Trainer]
    arguments_class: type[TrainingArguments]
    arguments: Mapping[str, Any]
    """The task's own training arguments."""
    score: Callable[[PreTrainedModel, Mapping[str, Any]], Predictions]
    """Model and micro-batch → predictions; the loss of an update is the sum of its losses over the sum of `items`. What
    collation has made for the model's forward beside `input_ids`, it passes on."""
    causal: bool = True
    """Whether each loss depends on nothing but the tokens before the one that it is about; then a run proves it of its
    model before it trains. Say False where a token may see those behind it, as in a masked language model, and where
    a whole row is told of."""
    reference: Callable[[PreTrainedModel, Mapping[str, Tensor]], Tensor] | None = None
    """Given where `score` takes a shortcut through the model: the logits of the same N places by the model's plain
    forward, (N, V). A run proves before its first update that both are the same."""
    items: Callable[[Mapping[str, Tensor]], int] = learned_tokens
    """Micro-batch → how many items it counts in the loss of its update; by default its learned tokens."""
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the model's outputs."""
    targets: Callable[[Sequence[tuple[str, ...]]], Tensor] | None = None
    """The classes of B rows → what `score` finds as `targets` in the micro-batch, (B,) or (B, C); raises `ValueError`
    with a sentence for a row that cannot be learned."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values for the model's configuration, e.g. `id2label`."""
    notes: Callable[[PreTrainedModel], Sequence[str]] | None = None
    """What is to be said of the loaded model, in the log and in `events.jsonl`."""
    fit: Callable[[PreTrainedModel, PreTrainedTokenizerBase], None] | None = None
    """Called once after loading: makes model and tokenizer agree where the task needs it."""
    answer: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Example, int], str] | None = None
    """Model, tokenizer, evaluation row and longest row in tokens → the model's answer in words, for the samples before
    and after; by default the model continues the prompt."""
    try_it: str = 'generate {run} "your question"'
    """The verb and its words that the closing screen suggests."""


class Task(Strategy):
    """What is learned: the model class and the trainer."""

    family: ClassVar[str] = "task"
    level: ClassVar[Level | None] = "token"
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Keys of the recipe that are filled where it is silent, e.g. `{"masking": "label", "data.*.format": "labelled"}`;
    `*` stands for both kinds of datasets."""

    @abstractmethod
    def build(self, ctx: TaskContext) -> TaskParts:
        """Yield the model class, the trainer class and the scoring function."""


@dataclass(frozen=True, kw_only=True)
class MetricContext:
    """What a metric gets."""

    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the model's outputs; empty where tokens are learned."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric as a pair of plain functions: statistics that add up over batches and ranks, and their number."""

    statistics: Callable[[Predictions], Tensor]
    """Predictions → a float64 tensor of fixed shape (K,)."""
    value: Callable[[Tensor], float]
    """The sum of all statistics → the metric."""
    details: Callable[[Tensor], Mapping[str, Sequence[Sequence[str | int | float]]]] | None = None
    """The sum of all statistics → tables by their titles, for `summary.json` and the closing screen: lists of rows of
    text and numbers, the first of them the heading."""


class Metric(Strategy):
    """A number that says how good the model is on the evaluation rows."""

    family: ClassVar[str] = "metric"
    level: ClassVar[Level | None] = "token"

    greater_is_better: ClassVar[bool] = False

    @abstractmethod
    def build(self, ctx: MetricContext) -> Measure:
        """Yield the pair of functions."""


# -- the families, in the order in which a run uses them -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """A family: where it stands in the recipe and which strategy serves when the recipe is silent."""

    name: str
    base: type[Strategy]
    table: str
    """The recipe's key, e.g. `schedule` or `data.train[].format`."""
    default: str | None
    """Id of the built-in used when the recipe does not say; None where the recipe must say or may have none."""
    many: bool = False
    """True where the recipe holds a list of them."""


FAMILIES: tuple[Family, ...] = (
    Family("model", ModelSource, "model.source", "pretrained"),
    Family("format", Format, "data.*.format", "messages"),
    Family("filter", Filter, "filters", None, many=True),
    Family("mixing", Mixing, "mixing", "concatenate"),
    Family("masking", Masking, "masking", "assistant"),
    Family("batching", Batching, "batching", "bucketed"),
    Family("freezing", Freezing, "freezing", "full"),
    Family("layer_rates", LayerRates, "layer_rates", "uniform"),
    Family("optimizer", Optimizer, "optimizer", "adamw"),
    Family("schedule", Schedule, "schedule", "cosine"),
    Family("regularizer", Regularizer, "regularizers", None, many=True),
    Family("precision", Precision, "precision", "auto"),
    Family("sharding", Sharding, "sharding", "none"),
    Family("task", Task, "task", "sft"),
    Family("metric", Metric, "evaluation.metrics", "loss", many=True),
)
