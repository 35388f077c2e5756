"""`lora`: beside each linear layer a product of two thin matrices learns, W stays: y = Wx + s·B(Ax), s = α/r.

Hu et al. 2021 (arXiv 2106.09685), on the peft library. A is random and B is 0, so the first update starts from the
model as it was. Variants: rank-stabilised s = α/√r (Kalajdzievski 2023, arXiv 2312.03732); DoRA, which learns each
output neuron's length apart from its direction (Liu et al. 2024, arXiv 2402.09353).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Freezing, FreezingContext, FreezingPlan, ModelError, Problem, RecipeError, TrainableUnit
from fttool_plugins.freezing.adapter import NAME, Adapter

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Lora(Freezing):
    """Low-rank adapters beside the linear layers train, the model's own weights do not.

    Gradients, optimizer state and checkpoints are those of the adapters, a few hundredths of the model's; activations
    are hardly fewer than in full fine-tuning. Adapters want a higher rate: 1e-4 to 5e-4 rather than 1e-5 to 5e-5. The
    head of a classifier, and whatever else the model's source does not give, trains in full.

    At the end `adapter/` in the run directory is what `PeftModel.from_pretrained(base, "adapter")` loads. In `model/`
    is the model as one: by default with the adapters added to its weights, which plain transformers loads.

    A pull towards the start acts on the adapters' matrices: B goes to 0 and A to its random start. So the change of the
    model goes to 0 too, but the strength is not that of a pull on the model's own weights. Experts that an architecture
    holds in one tensor are not linear layers, and get no adapter.

    Use it where memory is short or many variants of one model are to be kept; its learning rate is about ten times
    that of `full`. Cost: state of a few percent of the parameters; the backward pass still runs through every
    layer.
    """

    name: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1)] = 16
    """r, the width of the thin matrices."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """α: the adapter's output is scaled by α/rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an adapter's inputs that are dropped while it trains."""
    targets: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Which linear layers get an adapter, by their names or the ends of them, `*` stands for any text: `["q_proj",
    "*.mlp.*"]`; default: all in the model's layers."""
    rslora: bool = False
    """Scale by α/√rank, which keeps large ranks from learning more slowly."""
    dora: bool = False
    """Learn each output neuron's length apart from its direction: nearer to full fine-tuning, and slower."""
    merge: bool = True
    """Add the adapters to the weights of `model/`. False: `model/` holds the model's own weights as they were and the
    adapter beside them; transformers loads both where peft is installed. In 16 bits, adding rounds."""

    @property
    @override
    def adapts(self) -> bool:
        return True

    @override
    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Put adapters into the model; yield one unit of them, and of a new head."""
        try:
            from peft import LoraConfig, LoraModel
            from peft.functional import cast_adapter_dtype
        except ImportError as missing:
            hint = "pip install 'fttool[lora]'"
            raise ModelError("freezing 'lora' needs peft, which is not installed", hint=hint) from missing
        import torch

        model, before = ctx.model, {id(p) for p in ctx.model.parameters()}
        in_full = trained_as_they_are(ctx)
        chosen = self._chosen(ctx, in_full)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType] - a float serves as well
            lora_dropout=self.dropout,
            target_modules=shortest(chosen, [name for name, _ in model.named_modules()]),
            fan_in_fan_out=any(is_transposed(module) for module in chosen.values()),
            use_rslora=self.rslora,
            use_dora=self.dora,
            base_model_name_or_path=model.name_or_path or None,
            task_type="CAUSAL_LM" if model.get_output_embeddings() is not None else None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ctx.seed)
            try:
                tuner = LoraModel(model, config, NAME)
            except ValueError as refused:  # Mamba's out_proj, whose weight a fused kernel reads past its adapter
                ends = sorted({name.rpartition(".")[2] for name in chosen})
                left = ", ".join(f'"{end}"' for end in ends if f"'{end}'" not in str(refused))
                hint = f"name the others: freezing.targets = [{left}]"
                raise ModelError(Problem(f"peft: {refused}", hint=hint, key=("freezing", "targets"))) from refused
        cast_adapter_dtype(model, NAME)  # to float32, over weights in 16 bits too
        adapters = {name for name, p in model.named_parameters() if id(p) not in before}
        return FreezingPlan(
            units=[TrainableUnit(parameters=frozenset(adapters | in_full))],
            export=partial(self._export, tuner=tuner, adapter=Adapter(config, in_full)),
        )

    def _chosen(self, ctx: FreezingContext, in_full: frozenset[str]) -> Mapping[str, nn.Module]:
        """The linear layers that get an adapter; raises `RecipeError` for a target that fits none of them."""
        named = dict(ctx.model.named_parameters())
        outside = {id(named[name]) for name in (*ctx.layers.embeddings, *ctx.layers.head, *in_full)}
        candidates = {
            name: layer for name, layer in linear_layers(ctx.model).items() if id(layer.weight) not in outside
        }
        if not self.targets:
            inside = {id(named[name]) for block in ctx.layers.blocks for name in block}
            candidates = {name: layer for name, layer in candidates.items() if id(layer.weight) in inside}
            if not candidates:
                message = f"{type(ctx.model).__name__} has no linear layers in a stack of layers"
                raise ModelError(message, hint='name them: freezing = {name = "lora", targets = ["…"]}')
        ends = sorted({name.rpartition(".")[2] for name in candidates})
        problems = [
            Problem(
                f"no linear layer is called '{target}'",
                hint=f"they end in {', '.join(ends)}; the embeddings and the head get no adapter",
                key=("freezing", "targets", place),
            )
            for place, target in enumerate(self.targets)
            if not any(fits(name, target) for name in candidates)
        ]
        if problems:
            raise RecipeError(problems)
        targets = self.targets or ("*",)
        return {name: layer for name, layer in candidates.items() if any(fits(name, target) for target in targets)}

    def _export(self, model: Any, run_dir: Path, *, tuner: Any, adapter: Adapter) -> None:
        adapter.save(model, run_dir / "adapter")
        if self.merge:
            tuner.merge_and_unload()
        else:
            model.save_pretrained = partial(adapter.save_apart, model)


# -- which layers --------------------------------------------------------------------------------------------------


def trained_as_they_are(ctx: FreezingContext) -> frozenset[str]:
    """What trains in full: the head of a model that is not a language model, and whatever is new."""
    head = ctx.layers.head if ctx.model.get_output_embeddings() is None else ()
    return frozenset(head) | ctx.new


def linear_layers(model: PreTrainedModel) -> Mapping[str, nn.Module]:
    """All linear layers by name, GPT-2's transposed ones too."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def is_transposed(module: nn.Module) -> bool:
    """True for GPT-2's `Conv1D`, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def fits(name: str, target: str) -> bool:
    """True where a target means a layer: its whole name, or the end of it after a dot."""
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")


def shortest(chosen: Mapping[str, nn.Module], names: Sequence[str]) -> list[str]:
    """Names as `adapter_config.json` lists them: the last parts, where these mean the chosen layers and no others."""
    ends = sorted({name.rpartition(".")[2] for name in chosen})
    meant = {name for name in names if name.rpartition(".")[2] in ends}
    return ends if meant == set(chosen) else sorted(chosen)
