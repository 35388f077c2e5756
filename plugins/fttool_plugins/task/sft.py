"""`sft`: supervised fine-tuning of a causal language model, on trl's SFTTrainer.

Only the learned positions are projected through the head: a hook in front of it drops all others, so the model's own
forward (with its soft-capping, scaling …) runs on N learned places instead of B·T. On chat rows, where half of the
tokens or more are prompt, this saves most of the head's compute and of the logits' memory, on any device.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt
from typing_extensions import override

from fttool.api import InParts, Losses, ModelError, Predictions, Problem, Recipe, Task, TaskContext, TaskParts
from fttool_plugins.task import in_parts, router

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


IGNORED = -100
"""PyTorch's `ignore_index`: a label that is not learned."""


class SupervisedFineTuning(Task):
    """Next-token cross-entropy on the labels that the masking strategy sets, over `trl.SFTTrainer`.

    The loss of an update is the sum of its token losses over the number of its labels, whatever the accumulation.

    A mixture of experts may learn by the load-balancing loss of its router too. It is defined over the tokens of one
    forward pass, padding left out; an update's is the mean over its micro-batches, each weighted by its tokens. So
    accumulation and processes change nothing as long as `run.micro_batch` stays; a larger micro-batch is balanced as
    a whole, and each part of it less strictly. `metrics.jsonl` has it as `router_loss`, coefficient included, beside
    `loss`, which is without it.
    """

    name: Literal["sft"] = "sft"
    router_loss: Annotated[float, Field(ge=0)] | None = None
    """Coefficient of that loss, 0 for none; default: the model's own where its configuration has it switched on
    (`output_router_logits`), none where it has not, and the log says which."""
    head_chunk: Literal["auto", "whole"] | PositiveInt = "auto"
    """How many places go through the model's head at once while it learns, to save memory: the backward pass computes
    their logits again. `auto`: as many as have 2²⁶ logits (256 MiB in float32), where a micro-batch may have more than
    twice as many; else, and with `whole`, all of them. A run tries first whether its model learns the same part by
    part, and says so where it does not. All go at once where each process holds a share of the weights, and where a
    regularizer looks at predictions."""
    places: Literal["learned", "all"] = "learned"
    """Which places go through the model's head: the learned ones alone, which a run proves to be the same to its model,
    or all of them, for a model that looks at the others' logits too."""

    @override
    def build(self, ctx: TaskContext) -> TaskParts:
        from transformers import AutoModelForCausalLM
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        return TaskParts(
            model_class=AutoModelForCausalLM,
            trainer_class=SFTTrainer,
            arguments_class=SFTConfig,
            arguments={"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None},
            score=partial(score, router_loss=self.router_loss, everywhere=self.places == "all"),
            in_parts=InParts(learn=partial(learn, router_loss=self.router_loss), places=self._places_at_once)
            if self.places == "learned"
            else None,
            reference=everywhere if self.places == "learned" else None,
            without_shortcut='set task = {name = "sft", places = "all"}: every place goes through the head',
            notes=partial(router.said, asked=self.router_loss),
            fit=lambda model, _: router.refuse_without_router(model, self.router_loss),
        )

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if self.places == "all" and isinstance(self.head_chunk, int):
            message = "head_chunk has no effect where all places go through the head"
            yield Problem(message, hint="leave one of the two out", key=("task", "head_chunk"))

    def _places_at_once(self, model: PreTrainedModel, tokens: int) -> int | None:
        if isinstance(self.head_chunk, int):
            return self.head_chunk
        head: Any = _head(model)
        return in_parts.places_at_once(len(head.weight), tokens) if self.head_chunk == "auto" else None


def everywhere(model: PreTrainedModel, batch: Mapping[str, Any]) -> Tensor:
    """Logits (N, V) at the learned places, all places having gone through the head."""
    return score(model, batch, everywhere=True).logits_NV


def score(
    model: PreTrainedModel, batch: Mapping[str, Any], router_loss: float | None = None, *, everywhere: bool = False
) -> Predictions:
    """Predictions at the N learned places of a micro-batch of `input_ids` and `labels`, each (B, T), and what else the
    model's forward is to get.

    Rows are padded on the right, so a causal model needs no attention mask: no token sees what comes after it.
    `router_loss` is the coefficient of a router's load-balancing loss; None for the model's own.
    """
    import torch.nn.functional as F

    places_N, targets_N = _learned(batch)
    inputs, coefficient = _inputs(model, batch, router_loss)
    with nullcontext() if everywhere else _only(places_N, _head(model)):
        outputs = model(**inputs)
    logits_NV = outputs.logits.flatten(0, 1)
    logits_NV = (logits_NV.index_select(0, places_N) if everywhere else logits_NV).float()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    terms = _terms(model, batch, outputs, coefficient)
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N, terms=terms)


def learn(model: PreTrainedModel, batch: Mapping[str, Any], at_once: int, router_loss: float | None = None) -> Losses:
    """The losses and terms of `score`, with the logits of no more than `at_once` places in memory at a time."""
    places_N, targets_N = _learned(batch)
    inputs, coefficient = _inputs(model, batch, router_loss)
    losses_N, outputs = in_parts.losses(_bare(model), lambda: model(**inputs), places_N, targets_N, at_once)
    return Losses(losses_N=losses_N, terms=_terms(model, batch, outputs, coefficient))


def _learned(batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The N places whose next token is learned, as numbers in (B·T,), and these tokens (N,).

    Selecting by number copies and scatters whole hidden states, where a mask of (B, T) would go through single numbers,
    three to six times as slowly.
    """
    import torch.nn.functional as F

    targets_BT = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    places_N = (targets_BT.flatten() != IGNORED).nonzero().squeeze(1)
    return places_N, targets_BT.flatten().index_select(0, places_N)


def _inputs(
    model: PreTrainedModel, batch: Mapping[str, Any], router_loss: float | None
) -> tuple[dict[str, Any], float]:
    """What the model's forward gets, and the coefficient of its router's loss, 0 for none."""
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name not in ("labels", "attention_mask")}
    inputs["use_cache"] = False
    coefficient = 0.0
    if model.training:
        coefficient = router.own_coefficient(_bare(model)) if router_loss is None else router_loss
    if coefficient:
        inputs["output_router_logits"] = True
    return inputs, coefficient


def _terms(model: PreTrainedModel, batch: Mapping[str, Any], outputs: Any, coefficient: float) -> dict[str, Tensor]:
    return {"router_loss": coefficient * router.balancing(_bare(model), outputs, batch)} if coefficient else {}


def _bare(model: Any) -> PreTrainedModel:
    """The model inside DistributedDataParallel and the like."""
    return getattr(model, "module", model)


def _head(model: PreTrainedModel) -> nn.Module:
    head = _bare(model).get_output_embeddings()
    if head is None:
        raise ModelError(
            f"{type(_bare(model)).__name__} has no language-model head",
            hint="task = sft needs a causal model",
        )
    return head


@contextmanager
def _only(places_N: Tensor, head: nn.Module) -> Generator[None]:
    """While open, `head` sees the hidden states (1, N, D) at `places_N` of (B·T,) instead of all (B, T, D)."""

    def compact(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTD = arguments[0]
        return (hidden_BTD.flatten(0, 1).index_select(0, places_N).unsqueeze(0), *arguments[1:])

    handle = head.register_forward_pre_hook(compact)
    try:
        yield
    finally:
        handle.remove()
