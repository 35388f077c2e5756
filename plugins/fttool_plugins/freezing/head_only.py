"""`head-only`: the head learns to read what the frozen backbone already computes.

Also called linear probing where the head is one projection (Alain and Bengio 2016, arXiv 1610.01644).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Features, Freezing, FreezingContext, FreezingPlan, ModelError, TrainableUnit, layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HeadOnly(Freezing):
    """Only the head trains: the output projection of a language model, or the classifier.

    The backbone keeps its weights bit for bit, and needs neither gradients nor optimizer state; it has no dropout. What
    it computes of the training rows is the same in every epoch, so in a run that sees its rows more than once it is
    computed once, before the first update, and an update costs the head alone. Only the hidden states that the head
    reads are kept: of the learned tokens, or one per row for a classifier.

    What the model's source does not give trains with the head, such as the pooler of a BERT that was saved without one;
    a backbone that holds such weights runs in every epoch.

    Use it for few rows, or a first look at how far the features carry. Cost: one forward pass per row in the whole
    run, then the head alone.
    """

    name: Literal["head-only"] = "head-only"
    untie: bool = False
    """Give a language-model head that shares its weights with the input embeddings a copy of its own."""
    features: Literal["auto", "off"] = "auto"
    """`auto`: what the backbone computes is kept where it pays and has room. `off`: it runs in every epoch."""
    memory_gb: Annotated[float, Field(ge=0)] = 4.0
    """Features up to this size stay in memory, in GB of 10⁹ bytes."""
    disk_gb: Annotated[float, Field(ge=0)] = 100.0
    """What is beyond goes into a file in the run directory, up to this size in GB; beyond both, nothing is kept."""

    @property
    @override
    def trains_matrices(self) -> bool:
        return False

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit of the head; raises `ModelError` where the model has none of its own."""
        if ctx.layers.tied and self.untie:
            untie(ctx.model)
        parts = layers(ctx.model)
        if parts.tied:
            raise ModelError(
                "freezing is head-only, but this model's head shares its weights with the input embeddings",
                hint='give it its own with freezing = {name = "head-only", untie = true}, or set freezing = "full"',
            )
        if not parts.head:
            raise ModelError(
                f"freezing is head-only, but {type(ctx.model).__name__} has no head",
                hint='set freezing = "full"',
            )
        features = Features(memory_gb=self.memory_gb, disk_gb=self.disk_gb) if self.features == "auto" else None
        return FreezingPlan(
            units=[TrainableUnit(parameters=frozenset(parts.head) | ctx.new)],
            features=features or Features(memory_gb=0, disk_gb=0),
        )


def untie(model: PreTrainedModel) -> None:
    """Give the output projection its own copy of the weights, and say so in the config, so that they stay apart."""
    from torch import nn

    head: Any = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
