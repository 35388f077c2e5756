"""The model: where it comes from, and which of its parameters train, when, and at which rate."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fttool.contracts.strategy import Context, Place, Strategy

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.contracts.layers import Layers


@dataclass(frozen=True, kw_only=True)
class SourceContext(Context):
    """What a model source gets."""

    trust_remote_code: bool
    """True where the recipe lets the model bring Python code of its own."""


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
    newly_initialised: set[str] = field(default_factory=set[str])
    """A source adds the names of parameters that its files lack and that it has initialised at random: a new head."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a model source yields: tokenizer first, since rows are prepared before the model is needed."""

    tokenizer: Callable[[], PreTrainedTokenizerBase]
    """Loads the tokenizer, with the chat template that came with it."""
    model: Callable[[LoadOptions], PreTrainedModel]
    """Loads the model with its weights, on the CPU."""
    origin: Mapping[str, str]
    """Where they came from (path, revision, file hash …), for `lock.json` and the model card."""
    stored: Callable[[], Mapping[str, str]] = dict
    """The format of each tensor in the files of its weights, by the tensor's name, as torch spells it (`bfloat16`);
    asked once the model is loaded. The final model is saved in it; where there is none, in the format that it was
    trained in. `stored_formats` reads those of a folder."""


class ModelSource(Strategy):
    """Where the model comes from. In a recipe, `"scheme:path"` means `{name = "scheme", path = "path"}`."""

    family = "model"
    place = Place("model.source", default="pretrained")

    path: str
    """What follows the scheme: a hub id, folder, file, package or name."""

    def needs_network(self, folder: Path) -> bool:
        """True where loading may fetch something; `folder` is the recipe's. Core forbids the network otherwise."""
        return False

    @abstractmethod
    def build(self, ctx: SourceContext) -> Source:
        """Yield loaders for the tokenizer and the model."""


@dataclass(frozen=True, kw_only=True)
class FreezingContext(Context):
    """What a freezing strategy gets."""

    model: PreTrainedModel
    """With its weights; a strategy may add parameters to it."""
    layers: Layers
    """Where its parameters stand."""
    total_steps: int
    """Updates in the whole run."""
    steps_per_epoch: int
    """Updates in an epoch."""
    new: frozenset[str] = frozenset()
    """Names of the parameters that the model's source does not give and that were randomly initialised: a new head."""


Updates: TypeAlias = tuple[range, ...]
"""Stretches of updates (from 0), in order and apart from each other."""


ALWAYS: Updates = (range(sys.maxsize),)
"""All updates."""


def from_update(first: int) -> Updates:
    """Update `first` and all after it."""
    return (range(first, sys.maxsize),)


@dataclass(frozen=True, kw_only=True)
class TrainableUnit:
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
class FreezingPlan:
    """What a freezing strategy yields."""

    units: Sequence[TrainableUnit]
    """A parameter in none of them never trains."""
    features: Features | None = None
    """Given where nothing in the base model (`model.base_model`) is to train: it then stays in evaluation mode, without
    dropout, and what it computes of the training rows is kept."""
    export: Callable[[PreTrainedModel, Path], None] | None = None
    """Called once with the final weights and the run directory, before the model is saved: may write files there, and
    change modules in place, so that plain transformers can load what is saved."""


class Freezing(Strategy):
    """Which parameters train, and when."""

    family = "freezing"
    place = Place("freezing", default="full")

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
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield the trainable units; may add parameters to the model: core looks for its layers again afterwards."""


@dataclass(frozen=True, kw_only=True)
class LayerRatesContext(Context):
    """What a layer-rates strategy gets."""

    model: PreTrainedModel
    """With its weights."""
    layers: Layers
    """Where its parameters stand."""


class LayerRates(Strategy):
    """The learning rate of each parameter, as a factor of the optimizer's `lr`."""

    family = "layer_rates"
    place = Place("layer_rates", default="uniform")

    @abstractmethod
    def build(self, ctx: LayerRatesContext) -> Callable[[str], float]:
        """Yield a function from a parameter's name to its factor."""
