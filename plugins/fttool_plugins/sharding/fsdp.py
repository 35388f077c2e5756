"""`fsdp`: parameters, gradients and optimizer state in shares (torch's FSDP2, through accelerate)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import override

from fttool.api import Problem, RecipeError, ShardingContext, ShardingPlan, bytes_held
from fttool_plugins.sharding.pickles import code_in_distributed
from fttool_plugins.sharding.several import SeveralProcesses

if TYPE_CHECKING:
    from transformers import Trainer

    from fttool.api import Recipe


class FSDP(SeveralProcesses):
    """Each process holds one Nth of the parameters, gradients and optimizer state; a layer is put together from all of
    them while it is computed (torch's `fully_shard`, FSDP2).

    Layers are found in any architecture. With AdamW in fp32 a process holds 16/N bytes per parameter, before
    activations, and one or two gathered layers while it computes. While the model is loaded each process holds all of
    it in the machine's memory. Zhao et al. 2023 (arXiv 2304.11277).

    Use it where the model and its optimizer state do not fit into one device. Cost: one half more communication than
    `ddp`: each layer is gathered for the forward and again for the backward pass, besides the sums of gradients.
    """

    name: Literal["fsdp"] = "fsdp"
    reshard_after_forward: bool = True
    """False: a layer stays gathered from its forward to its backward pass, which saves the second all-gather and costs
    the memory of all parameters (ZeRO-2 in other words)."""
    cpu_offload: bool = False
    """Parameters, gradients and optimizer state stay in the machine's memory, and the update is made there: slow, and
    the last resort."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass, layer by layer: FSDP's own, to be preferred to
    model.gradient_checkpointing, which gathers each layer a third time."""
    state: Literal["sharded", "full"] = "sharded"
    """Format of checkpoints. `sharded`: each process writes its share (torch's distributed checkpoints, which any
    number of processes can read). `full`: the first process writes all of it, as one file."""

    @property
    @override
    def sharded(self) -> bool:
        return True

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Two kinds of activation checkpointing exclude each other, and what trains is in float32."""
        yield from super().check(recipe)
        yield from refuse_16_bits(recipe)
        if self.activation_checkpointing and recipe.model.gradient_checkpointing:
            yield Problem(
                "sharding.activation_checkpointing and model.gradient_checkpointing do the same",
                hint="keep sharding.activation_checkpointing",
                key=("model", "gradient_checkpointing"),
            )

    @override
    def build(self, ctx: ShardingContext) -> ShardingPlan:
        config = {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": sorted(ctx.layer_classes),
            "reshard_after_forward": self.reshard_after_forward,
            "cpu_offload": self.cpu_offload and ctx.device.type != "cpu",  # there all of it lies in that memory
            "activation_checkpointing": self.activation_checkpointing,
            "state_dict_type": f"{self.state.upper()}_STATE_DICT",
        }
        arguments = {
            "ddp_backend": {"cuda": "cuda:nccl,cpu:gloo" if self.cpu_offload else "nccl"}.get(ctx.device.type, "gloo"),
            "ddp_timeout": self.timeout,
            "fsdp": True,
            "fsdp_config": config,
        }
        computed = {"bf16": "bfloat16", "fp16": "float16"}.get(ctx.numerics.autocast)
        return ShardingPlan(
            processes=self.processes,
            arguments=arguments,
            engage=partial(_engage, computed=computed),
            code_in=code_in_distributed if self.state == "sharded" else None,
            marker="pytorch_model_fsdp_0" if self.state == "sharded" else "pytorch_model_fsdp.bin",
            prove=_prove,
        )


def refuse_16_bits(recipe: Recipe) -> Iterable[Problem]:
    """accelerate makes shards of weights that train float32, silently; beside adapters the others stay as they are."""
    if recipe.precision.half_weights and not recipe.freezing.adapts:
        yield Problem(
            "fsdp holds what trains in float32, whatever precision.weights says",
            hint='leave precision.weights out: the computation stays in bf16; or set sharding.name = "ddp"',
            key=("precision", "weights"),
        )


def _engage(trainer: Any, *, computed: str | None) -> None:
    """Let accelerate shard on a CPU too, where it would silently run DDP; and add up gradients in float32."""
    import torch
    from accelerate import DistributedType
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    state = trainer.accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        for shared in (AcceleratorState._shared_state, PartialState._shared_state):  # pyright: ignore[reportPrivateUsage]
            shared["distributed_type"] = DistributedType.FSDP
        AcceleratorState._shared_state["fsdp_plugin"] = plugin  # pyright: ignore[reportPrivateUsage]
        trainer.is_fsdp_enabled = True
    if computed is not None:
        formats = MixedPrecisionPolicy(param_dtype=getattr(torch, computed), reduce_dtype=torch.float32)
        state.fsdp_plugin.mixed_precision_policy = formats


def _prove(trainer: Trainer) -> Mapping[str, int]:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    model: Any = trainer.model
    unsharded = [name for name, p in model.named_parameters() if not isinstance(p, DTensor)]
    if not isinstance(model, FSDPModule) or unsharded:
        what = f"'{unsharded[0]}' is not sharded" if unsharded else f"the model is a {type(model).__name__}"
        raise RecipeError(
            f"sharding 'fsdp' is not on: {what}", hint='sharding.name = "ddp" holds everything in each process'
        )
    return bytes_held(trainer)
