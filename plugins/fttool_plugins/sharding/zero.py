"""`zero`: optimizer state, gradients and parameters in shares, as much of it as the stage says (DeepSpeed's ZeRO)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from fttool.api import Problem, RecipeError, ShardingContext, ShardingPlan
from fttool_plugins.sharding.pickles import code_in_deepspeed
from fttool_plugins.sharding.several import SeveralProcesses

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, Trainer

    from fttool.api import Recipe

INSTALL = "pip install 'fttool[deepspeed]'"
BUCKET = 500_000_000
"""Gradients that are summed over the processes at once, DeepSpeed's default: it allocates as much on each device."""


class ZeRO(SeveralProcesses):
    """Each process holds one Nth of the optimizer state (stage 1), of the gradients too (2), of the parameters too (3);
    DeepSpeed, from the extra `fttool[deepspeed]`.

    With AdamW and 16-bit weights over float32 masters a process holds 4 + 12/N, 2 + 14/N or 16/N bytes per parameter,
    before activations. While the model is loaded each process holds all of it in the machine's memory.
    Rajbhandari et al. 2020 (arXiv 1910.02054).

    Use it where `fsdp` cannot serve, or where DeepSpeed is at home. Cost: stages 1 and 2 communicate as much as `ddp`,
    stage 3 one half more; a checkpoint can be resumed only in the same number of processes.
    """

    name: Literal["zero"] = "zero"
    stage: Literal[1, 2, 3] = 2
    """1: optimizer state in shares. 2: gradients too. 3: parameters too."""
    offload_optimizer: bool = False
    """Optimizer state stays in the machine's memory, and the update is made there."""
    offload_parameters: bool = False
    """Parameters stay in the machine's memory and come to the device layer by layer; stage 3 only."""

    @property
    @override
    def sharded(self) -> bool:
        return True

    @property
    @override
    def flat(self) -> bool:
        return True

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Parameters can be offloaded only where they are in shares."""
        yield from super().check(recipe)
        averages = [place for place, regularizer in enumerate(recipe.regularizers) if regularizer.watches_weights]
        if self.stage == 3 and averages:
            name = recipe.regularizers[averages[0]].id()
            yield Problem(
                f"{name} looks at the weights after each update, and zero stage 3 leaves none in the model then",
                hint='set sharding.name = "fsdp", or a lower stage',
                key=("regularizers", averages[0]),
            )
        if self.offload_parameters and self.stage != 3:
            yield Problem(
                f"offload_parameters needs stage 3: stage {self.stage} keeps all parameters on each device",
                hint="stage = 3, or offload_optimizer = true",
                key=("sharding", "offload_parameters"),
            )

    @override
    def build(self, ctx: ShardingContext) -> ShardingPlan:
        """Yield a DeepSpeed configuration; what the recipe says elsewhere comes from the Trainer's arguments."""
        try:
            import deepspeed
        except ImportError as missing:
            raise RecipeError("sharding 'zero' needs deepspeed, which is not installed", hint=INSTALL) from missing
        if ctx.device.type == "cpu":  # gloo serves; it would compile an operation of its own for a minute
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        shares = self._shares(ctx)
        by_stage: dict[str, Any] = {"placed": _in_flat_groups}
        if self.stage == 3:
            split = partial(_split, dtype=ctx.numerics.autocast, offload=shares.get("offload_param"))
            by_stage = {
                "split": split,
                "placed": _in_partitions,
                "weights": _one_by_one,
                "shares": _held,
                "weights_apart": True,
            }
        return ShardingPlan(
            processes=self.processes,
            arguments={
                "ddp_backend": {"cuda": "nccl"}.get(ctx.device.type, "gloo"),
                "ddp_timeout": self.timeout,
                "deepspeed": {"zero_optimization": shares, **_engine()},
            },
            engage=_engage,
            code_in=code_in_deepspeed,
            marker=f"global_step*/{'zero_pp_rank_0_' if self.stage == 3 else ''}mp_rank_00_model_states.pt",
            reshards=False,
            masters=None if ctx.numerics.autocast == "no" else _masters,
            prove=partial(_prove, stage=self.stage),
            **by_stage,
        )

    def _shares(self, ctx: ShardingContext) -> dict[str, Any]:
        """DeepSpeed's `zero_optimization`: what is in shares, and where they lie."""
        shares: dict[str, Any] = {"stage": self.stage}
        if ctx.trained is not None:  # no more than there is to be summed
            shares["reduce_bucket_size"] = min(BUCKET, ctx.trained)
        in_memory = {"device": "cpu", "pin_memory": ctx.device.type == "cuda"}
        if self.offload_optimizer:
            shares["offload_optimizer"] = in_memory
        if self.offload_parameters:
            shares["offload_param"] = {**in_memory}
        if self.stage == 3:
            shares["stage3_gather_16bit_weights_on_model_save"] = True
        return shares


def _engine() -> dict[str, Any]:
    """DeepSpeed's settings that no option changes; what is "auto" comes from the Trainer's arguments."""
    return {
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "steps_per_print": 10**9,
    }


def _engage(trainer: Any) -> None:
    """Models that are loaded from now on (the weights before training, read again) are unsharded."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def _split(model: PreTrainedModel, *, dtype: str, offload: Mapping[str, Any] | None) -> None:
    """Parameter by parameter, in the format that DeepSpeed would give them once all of them are on the device."""
    import deepspeed
    import torch

    computed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(dtype, torch.float32)
    for p in model.parameters():
        if p.is_floating_point():
            p.data = p.data.to(computed)
    there = {} if offload is None else {"remote_device": offload["device"], "pin_memory": offload["pin_memory"]}
    device = deepspeed.zero.Init(module=model, dtype=computed, **there).local_device
    for buffer in model.buffers():  # the engine moves nothing of a model that it finds in shares
        buffer.data = buffer.data.to(device)


def _one_by_one(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Each weight gathered in each process while it is the latest; what the first has changed is everyone's then."""
    import deepspeed

    for name, p in model.named_parameters():
        with deepspeed.zero.GatheredParameters([p], modifier_rank=0):
            yield name, p


def _masters(trainer: Trainer) -> Iterator[tuple[str, Tensor]]:
    """The float32 weights that are trained, gathered in each process; the model's own are 16-bit copies of them."""
    from deepspeed.utils import safe_get_full_fp32_param

    engine: Any = trainer.model_wrapped
    apart = getattr(engine.optimizer, "grad_position", {})  # stage 3
    for name, p in engine.module.named_parameters():
        if hasattr(p, "_hp_mapping") or (hasattr(p, "ds_id") and engine.optimizer.get_param_id(p) in apart):
            p.requires_grad_(True)  # of a group whose turn is over stage 3 would give none
            master: Any = safe_get_full_fp32_param(p)
            yield name, master


def _held(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The piece of each weight that this process holds."""
    for name, p in model.named_parameters():
        yield name, getattr(p, "ds_tensor", p)


def _in_flat_groups(trainer: Trainer, tensors: Mapping[str, Tensor]) -> Mapping[Tensor, Tensor]:
    """Stages 1 and 2: the optimizer holds this process's piece of all of a group's parameters in a row."""
    engine: Any = trainer.model_wrapped
    placed: dict[Tensor, Tensor] = {}
    for name, p in engine.module.named_parameters():
        piece = getattr(p, "_hp_mapping", None)  # None: it lies in another process's piece
        if name in tensors and piece is not None:
            flat = engine.optimizer.single_partition_of_fp32_groups[piece.param_group_index]
            there, here = piece.hp_fragment_address, piece.lp_fragment_address
            values = tensors[name].flatten().narrow(0, here.start, here.numel)
            placed.setdefault(flat, flat.new_zeros(flat.shape)).narrow(0, there.start, there.numel).copy_(values)
    return placed


def _in_partitions(trainer: Trainer, tensors: Mapping[str, Tensor]) -> Mapping[Tensor, Tensor]:
    """Stage 3: the optimizer holds this process's piece of each parameter, one after the other."""
    engine: Any = trainer.model_wrapped
    optimizer, rank = engine.optimizer, trainer.args.process_index
    placed: dict[Tensor, Tensor] = {}
    for name, p in engine.module.named_parameters():
        if name in tensors:
            group, offset, numel = optimizer.grad_position[optimizer.get_param_id(p)]
            flat = optimizer.fp32_partitioned_groups_flat[group]
            values = tensors[name].flatten()[rank * numel : (rank + 1) * numel]
            placed.setdefault(flat, flat.new_zeros(flat.shape)).narrow(0, offset, len(values)).copy_(values)
    return placed


def _prove(trainer: Trainer, *, stage: int) -> Mapping[str, int]:
    engine: Any = trainer.model_wrapped
    stage_on = engine.zero_optimization_stage() if trainer.is_deepspeed_enabled else 0
    if stage_on != stage:
        raise RecipeError(f"sharding 'zero' is not on: DeepSpeed runs stage {stage_on}, not {stage}", hint=INSTALL)
    from fttool.api import bytes_of

    parameters = [getattr(p, "ds_tensor", p) for p in engine.module.parameters()]
    trained = [getattr(p, "ds_tensor", p) for p in engine.module.parameters() if p.requires_grad]
    own = engine.optimizer.optimizer
    masters = [p for group in own.param_groups for p in group["params"]]  # stage 3 lends them for a step only
    masters = masters or engine.optimizer.fp32_partitioned_groups_flat
    state = [value for held in own.state.values() for value in held.values() if hasattr(value, "element_size")]
    gradients = bytes_of(trained)
    return {
        "parameter_bytes": bytes_of(parameters),
        "gradient_bytes": gradients // trainer.args.world_size if stage == 2 else gradients,
        "optimizer_bytes": bytes_of([*masters, *state]),
    }
