"""`acme.dft`: fine-tuning that does not chase what the model finds unlikely (Wu et al. 2025, arXiv 2508.05629)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from fttool.api import Predictions, Task, TaskContext, TaskParts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DynamicFineTuning(Task):
    """Next-token cross-entropy in which each token counts by the probability that the model gives it.

    The loss of a token is −sg(p)·log p, where sg stops the gradient: a token that the model finds all but impossible
    pulls little, where plain cross-entropy pulls it hardest. Evaluation is by plain cross-entropy, so that the metrics
    `loss` and `perplexity` compare with those of other tasks.
    """

    name: Literal["acme.dft"] = "acme.dft"

    def build(self, ctx: TaskContext) -> TaskParts:
        """Yield `AutoModelForCausalLM`, transformers' own `Trainer`, and the scoring function."""
        from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

        return TaskParts(
            model_class=AutoModelForCausalLM,
            trainer_class=Trainer,
            arguments_class=TrainingArguments,
            arguments={},
            score=score,
        )


def score(model: PreTrainedModel, batch: Mapping[str, Any]) -> Predictions:
    """Predictions at the N learned places of a micro-batch of `input_ids` and `labels`, each (B, T); all else that
    batching has made is for the model.
    """
    import torch.nn.functional as F

    outputs = model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False)
    targets_BT = F.pad(batch["labels"][:, 1:], (0, 1), value=-100)  # place t predicts token t + 1
    learned_BT = targets_BT != -100
    logits_NV, targets_N = outputs.logits[learned_BT].float(), targets_BT[learned_BT]
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    if model.training:
        losses_N = losses_N * (-losses_N).exp().detach()  # e^−loss is the token's probability
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N)
