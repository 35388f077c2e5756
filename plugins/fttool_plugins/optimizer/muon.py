"""`muon`: orthogonalised momentum for the matrices of the layers, AdamW for everything else.

Muon is Keller Jordan's (https://kellerjordan.github.io/posts/muon/); that its step may have the size of AdamW's, and so
AdamW's learning rate, is from Liu et al. 2025, arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Optimizer, OptimizerContext, OptimizerParts, Problem, RecipeError
from fttool_plugins.optimizer.adamw import FUSED_ON, Beta

if TYPE_CHECKING:
    from torch import Tensor

    from fttool.api import Layers, Recipe


class Muon(Optimizer):
    """A step with all singular values near 1 for the matrices of the layers; the rest is left to AdamW (2502.16982).

    B ← momentum·B + (1 − momentum)·g, O = orthogonalised B (or g and B mixed once more, with `nesterov`), then
    θ ← θ − lr·weight_decay·θ − lr·a·O, with a from `adjust_lr`. Embeddings, head, norms, biases and all else that is
    not a matrix of a layer go by `adamw`'s rule; `fttool run --dry-run` shows which is which. Keeps one number per
    weight of a matrix, two of the rest.

    The orthogonalisation takes full matrices, and `ns_steps` times three products of them in bfloat16 per update:
    cheap on a GPU, but as long as hundreds of AdamW's steps on a CPU that has to emulate bfloat16.

    Use it for long runs on many rows, best where the model was pre-trained with it too. Cost: 4 bytes per matrix
    weight in fp32, and three products of matrices per Newton-Schulz step.
    """

    name: Literal["muon"] = "muon"
    adamw_lr: Annotated[float, Field(gt=0, lt=10)] | None = None
    """Peak learning rate of what goes by AdamW; default: `lr`."""
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """a for a matrix of A outputs and B inputs: 0.2·√max(A, B), a step as large as AdamW's usually is, so that `lr` is
    AdamW's too; or √max(1, A/B), as first published, with an `lr` of about 0.02 to train from scratch."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Share of the mean gradient that is kept per update."""
    nesterov: bool = True
    """Orthogonalise momentum·B + (1 − momentum)·g instead of B."""
    ns_steps: Annotated[int, Field(ge=1, lt=100)] = 5
    """Newton-Schulz iterations by which a matrix is orthogonalised."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's β₁ and β₂; unit-free."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's, added to the denominator; in units of the gradient."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse engines that cut matrices up, as the orthogonalisation needs full ones, and freezing that trains no
        matrix of a layer.
        """
        if recipe.sharding.flat:
            message = f"muon needs full matrices, and {recipe.sharding.id()} hands an optimizer flat pieces of them"
            yield Problem(message, key=("optimizer", "name"), hint='set sharding.name = "fsdp", or optimizer = "adamw"')
        if not recipe.freezing.trains_matrices:
            message = f"muon is for the matrices of layers, and freezing '{recipe.freezing.id()}' trains none of them"
            yield Problem(message, key=("optimizer", "name"), hint='set optimizer = "adamw"')

    @override
    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        from fttool_plugins.optimizer.muon_adamw import MuonAdamW

        fused = not ctx.unfused and ctx.device.type in FUSED_ON
        options = {
            "muon": {
                "momentum": self.momentum,
                "nesterov": self.nesterov,
                "ns_steps": self.ns_steps,
                "adjust_lr_fn": self.adjust_lr,
            },
            "adamw": {"betas": self.betas, "eps": self.eps, "fused": fused or None},
        }
        return OptimizerParts(optimizer_class=MuonAdamW, options=options, group_keys=self._rule)

    def _rule(self, name: str, parameter: Tensor, layers: Layers) -> Mapping[str, Any]:
        if not layers.blocks:
            raise RecipeError(
                "muon is for the matrices of layers, and this model has none", hint='set optimizer = "adamw"'
            )
        if parameter.ndim == 2 and "bias" not in name and any(name in block for block in layers.blocks):
            return {"rule": "muon", **({"transposed": True} if name in layers.transposed else {})}
        return {"rule": "adamw", "lr": self.adamw_lr or self.lr}
