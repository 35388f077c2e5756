"""Tensors of which each process holds a shard (FSDP2's `DTensor`), beside tensors that each holds in full."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from fttool.errors import gist

T = TypeVar("T")


def local_shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sharded_like(values: Tensor, parameter: Tensor) -> Tensor:
    """`values`, the same in all processes, with the dtype and device of `parameter`, and sharded as it is."""
    if isinstance(values, DTensor) or not isinstance(parameter, DTensor):
        return values.to(parameter)
    values = values.to(parameter.device, parameter.dtype)
    shares = distribute_tensor(values, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return shares.to(parameter.device)  # they were made on the mesh's; offloaded parameters are elsewhere


@contextmanager
def runtime_errors() -> Generator[None]:
    """Around torch's distributed checkpoints: what they raise is a `BaseException`, which nobody would catch.

    Raises `RuntimeError` for it, from what went wrong in the first of the processes where something did.
    """
    try:
        yield
    except CheckpointException as fault:
        cause = next((cause for cause, _ in fault.failures.values()), fault)
        raise RuntimeError(f"a distributed checkpoint could not be written or read: {gist(cause)}") from cause


def class_of(model: Any) -> str:
    """The name of a model's own class, whatever DistributedDataParallel or FSDP2 have made of it."""
    bare = getattr(model, "module", model)
    own = [kind for kind in type(bare).__mro__ if not issubclass(kind, FSDPModule)]
    return own[0].__name__


def reshard(model: nn.Module) -> None:
    """Leave each process nothing but its shards.

    FSDP2 leaves some modules gathered after a forward pass that no backward pass follows. Their parameters are then
    other tensors than those that the optimizer knows, and would keep their old `requires_grad`.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gathered(state: T, *, keep: bool = True) -> T:
    """A state with each of its sharded tensors gathered, in the machine's memory: a collective call.

    Those that do not `keep` it get empty tensors in their place.
    """

    def gather(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        full = tensor.full_tensor()
        return full.cpu() if keep else full.new_empty(0)

    return mapped(state, gather)


def mapped(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A state of tensors, numbers, text, lists and dictionaries with each of its tensors changed."""
    if isinstance(state, Tensor):
        return change(state)
    if type(state) is dict:
        return {key: mapped(value, change) for key, value in cast("Mapping[Any, Any]", state).items()}
    if type(state) in (list, tuple):
        return type(state)(mapped(value, change) for value in state)
    return state
