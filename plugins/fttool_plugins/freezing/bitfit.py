"""`bitfit`: only the bias terms train (BitFit: Ben Zaken et al. 2022, arXiv 2106.10199).

For the model's weights W and biases b: b ← b − update, W stays. In BERT-base the biases are 0.09% of the numbers. The
paper trains the new classifier of the task in full besides.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import override

from fttool.api import Freezing, FreezingContext, FreezingPlan, ModelError, Problem, TrainableUnit


def is_bias(parameter: str) -> bool:
    """True for `….bias`, `….in_proj_bias`, `….bias_hh_l0`; not for `….relative_attention_bias.weight`."""
    last = parameter.rpartition(".")[2]
    return last.startswith("bias") or last.endswith("_bias")


class BitFit(Freezing):
    """Only the biases train, those of norms too, and a new classifier (arXiv 2106.10199).

    The model must have biases: BERT, GPT-2, GPT-NeoX and Qwen2 do, Llama, Mistral and Qwen3 do not.

    Use it on encoders and small data; a model without biases has nothing to train. Cost: almost no state; the
    backward pass still runs through every layer.
    """

    name: Literal["bitfit"] = "bitfit"
    head: bool | None = None
    """Whether the whole head trains. Default: a classifier does, for it is new; a language model's head does not."""

    @property
    @override
    def trains_matrices(self) -> bool:
        return False

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit; raises `ModelError` where there are no biases, or no head to train."""
        kind = type(ctx.model).__name__
        head = set(ctx.layers.head)
        biases = {name for name, _ in ctx.model.named_parameters() if is_bias(name)}
        if not biases - head:
            hint = "top-layers trains a part of any model, lora adds few parameters to it"
            raise ModelError(Problem(f"bitfit trains biases, and {kind} has none", key=("freezing",), hint=hint))
        is_new = ctx.model.get_output_embeddings() is None
        if self.head and not head:
            tied = f"the head of {kind} shares its weights with the input embeddings"
            message = f"freezing.head is true, but {tied if ctx.layers.tied else f'{kind} has none'}"
            raise ModelError(Problem(message, key=("freezing", "head"), hint="leave head out"))
        trains_head = is_new if self.head is None else self.head
        return FreezingPlan(units=[TrainableUnit(parameters=frozenset(biases | head if trains_head else biases))])
