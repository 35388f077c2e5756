"""`kl-init`: the model's predictions are held near those before training (distillation from the start).

The loss λ·T²·KL(p₀ ‖ p), with p₀ the predictions of the model that training started from and p the present ones, both
softened by the temperature T (Hinton et al. 2015, arXiv 1503.02531). On the rows that are learned from it is learning
without forgetting (Li and Hoiem 2016, arXiv 1606.09282); on general rows, distillation with replay. A pull on weights
keeps them near where they were; this keeps near what they do.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field
from typing_extensions import override

from fttool.api import (
    MicroBatch,
    Predictions,
    Problem,
    RecipeError,
    Regularization,
    Regularizer,
    RegularizerContext,
    did_you_mean,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from fttool.api import Recipe


class KLInit(Regularizer):
    """Adds λ·T²·KL(p₀ ‖ p) to the loss: the present predictions p must not go far from p₀, those before training.

    It is a mean over learned tokens (of classification, over rows), as the task's loss is, and 0 in the first update of
    a model without dropout. The model before training is read again from its source with the first update, frozen, and
    whole in each process whatever the sharding. `metrics.jsonl` has the loss as `kl-init`, λ and T² included, beside
    `loss`, which is without it.

    Use it where what the model does matters and its weights may move; on general rows, where there are some. Cost: the
    memory of a second model without gradients (2 or 4 bytes per weight) and of a second set of logits, and one more
    forward pass; on general rows a forward and a backward pass more.
    """

    name: Literal["kl-init"] = "kl-init"
    strength: Annotated[float, Field(gt=0)]
    """λ: how much the divergence counts beside the task's loss, both in nats per token."""
    on: Literal["learned", "general"] = "learned"
    """What is compared: the predictions that are learned, or those of general rows, of which each row that is learned
    from brings one along, sampled by the seed anew for each update."""
    rows: Annotated[str, Field(min_length=1)] | None = None
    """Name of the general dataset; default: all of them. Only with `on = "general"`."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """T: logits are divided by it, so that above 1 unlikely tokens count more; 2 in learning without forgetting."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of the frozen model's weights; default: that of the run. In 16 bits its predictions are rounded,
    and the divergence begins near 0 and not at it."""

    @property
    @override
    def uses_general(self) -> bool:
        """True where general rows are compared."""
        return self.on == "general"

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse general rows that are not there, and a dataset that is named and not used."""
        known = [dataset.dataset for dataset in recipe.data.general]
        if self.on == "learned":
            if self.rows is not None:
                message = "kl-init has rows, and compares those that are learned from"
                yield Problem(message, hint='set on = "general", or leave rows out')
        elif not known:
            hint = 'add [[data.general]] with path = "rows.jsonl", or set on = "learned"'
            yield Problem("kl-init needs rows that represent what the model knew", hint=hint)
        elif self.rows is not None and self.rows not in known:
            yield Problem(f"no general dataset is called '{self.rows}'", hint=did_you_mean(self.rows, known))

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the loss; raises `RecipeError` for a head that is new, whose predictions before training are random."""
        if ctx.layers.head and ctx.new.issuperset(ctx.layers.head):
            raise RecipeError(
                "kl-init holds on to the predictions before training, and those of a new head are random",
                hint="leave it out, or begin with a model that has been fine-tuned for these classes",
            )
        start = Start(ctx, self.dtype)
        memory = start.memory()
        if self.on == "learned":
            compared = LearnedRows(self, ctx, start)
            return Regularization(loss=compared.loss, memory=memory)
        general = GeneralRows(self, ctx, start)
        return Regularization(loss=general.loss, items=general.items, memory=memory)


def divergence(before: Predictions, now: Predictions, temperature: float) -> Tensor:
    """T²·KL(p₀ ‖ p) in nats of each of N predictions, (N,); where a row may have several classes, the sum over them.

    T² keeps the size of the gradient, which falls with 1/T² (Hinton et al. 2015, section 2).
    """
    import torch.nn.functional as F

    before_NV, now_NV = before.logits_NV / temperature, now.logits_NV / temperature
    if now.targets_N.ndim == 2:  # each class for itself: yes or no
        yes, no = (
            F.logsigmoid(side * before_NV).exp() * (F.logsigmoid(side * before_NV) - F.logsigmoid(side * now_NV))
            for side in (1, -1)
        )
        return temperature**2 * (yes + no).sum(-1)
    logs_NV = F.kl_div(now_NV.log_softmax(-1), before_NV.log_softmax(-1), log_target=True, reduction="none")
    return temperature**2 * logs_NV.sum(-1)


class Start:
    """The model before training, read again when it is first asked."""

    def __init__(self, ctx: RegularizerContext, dtype: str | None) -> None:
        self.ctx, self.dtype = ctx, dtype
        self._model: Any = None

    def memory(self) -> int:
        """Bytes of its weights."""
        import torch

        kind: torch.dtype | None = None if self.dtype is None else getattr(torch, self.dtype)
        given = (p for name, p in self.ctx.model.named_parameters() if name not in self.ctx.new)
        return sum(p.numel() * (kind or p.dtype).itemsize for p in given)

    def said(self, batch: Mapping[str, Tensor]) -> Predictions:
        """Its predictions of a micro-batch, without gradients."""
        import torch

        if self._model is None:
            [model] = [self.ctx.start_model(self.dtype) for _ in self.ctx.track([0], "reading the model again")]
            self._model = cast("Any", model).to(batch["input_ids"].device)
        with torch.no_grad():
            return self.ctx.score(self._model, batch)


class LearnedRows:
    """The loss over what is learned: the present predictions are at hand."""

    def __init__(self, options: KLInit, ctx: RegularizerContext, start: Start) -> None:
        self.options, self.ctx, self.start = options, ctx, start

    def loss(self, model: PreTrainedModel, batch: MicroBatch, predictions: Predictions) -> Tensor:
        """λ times the mean divergence of the micro-batch's predictions."""
        before = self.start.said(batch.inputs)
        return self.options.strength * divergence(before, predictions, self.options.temperature).mean()


class GeneralRows:
    """The loss over general rows, of which each learned row brings one along; which one depends on no other row, so it
    is the same whatever the micro-batches and processes.
    """

    def __init__(self, options: KLInit, ctx: RegularizerContext, start: Start) -> None:
        self.options, self.ctx, self.start = options, ctx, start
        self.rows = ctx.general(options.rows)
        self._items: dict[int, int] = {}

    def chosen(self, batch: MicroBatch) -> Sequence[int]:
        """The general rows of a micro-batch; one where it has no row, for each process computes as often."""
        generators = [random.Random(f"{self.ctx.seed} {batch.update} {row}") for row in batch.rows]
        return [draw.randrange(len(self.rows)) for draw in generators] or [0]

    def items(self, batch: MicroBatch) -> int:
        """Their labels."""
        for row in {*self.chosen(batch)} - self._items.keys():
            self._items[row] = self.ctx.items(self.rows[row])
        return sum(self._items[row] for row in self.chosen(batch))

    def loss(self, model: PreTrainedModel, batch: MicroBatch, predictions: Predictions) -> Tensor:
        """λ times the mean divergence on them."""
        general = self.ctx.general_batch(self.options.rows, self.chosen(batch))
        before, now = self.start.said(general), self.ctx.score(model, general)
        return self.options.strength * divergence(before, now, self.options.temperature).mean()
