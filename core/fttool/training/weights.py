"""The weights that a checkpoint holds: those that train. The others are the source's, and are told by a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fttool.errors import UsageError

FILE = "trained.safetensors"
"""Not `model.safetensors`: transformers would load that as a whole model, and initialise what is missing at random."""
FROZEN = "frozen"
"""Key of the fingerprint among the file's metadata."""


def held(model: nn.Module, trained: Set[str]) -> dict[str, Tensor]:
    """The parameters named in `trained`, and the buffers that belong to a saved model."""
    buffers = model.state_dict().keys() - dict(model.named_parameters(remove_duplicate=False)).keys()
    tensors = {name: p.detach() for name, p in model.named_parameters() if name in trained}
    return tensors | {name: buffer for name, buffer in model.named_buffers() if name in buffers}


def fingerprint(model: nn.Module, trained: Set[str]) -> str:
    """A hash over all parameters that are not in `trained`."""
    frozen = [(name, p.detach()) for name, p in model.named_parameters() if name not in trained]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_digest, (p for _, p in frozen)))
    lines = [f"{name} {tuple(p.shape)} {p.dtype} {digest}\n" for (name, p), digest in zip(frozen, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()


def save(model: nn.Module, trained: Set[str], folder: Path) -> None:
    """Write what trains to the folder's `trained.safetensors`."""
    tensors = {name: tensor.contiguous() for name, tensor in held(model, trained).items()}
    save_file(tensors, folder / FILE, metadata={FROZEN: fingerprint(model, trained)})


@torch.no_grad()
def load(model: nn.Module, trained: Set[str], folder: Path) -> None:
    """Give the model the weights of `save`; raises `UsageError` where its other weights are not those of back then."""
    with safe_open(folder / FILE, framework="pt") as file:
        frozen = file.metadata()[FROZEN]
        saved: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    present = held(model, trained)
    if saved.keys() != present.keys() or frozen != fingerprint(model, trained):
        raise UsageError(
            f"'{folder}' holds only the weights that train, and the model's others are not those it was saved beside",
            hint="resuming needs the model that the run was begun with, and the library versions of its lock.json",
        )
    for name, tensor in present.items():
        tensor.copy_(saved[name])


def put(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make these tensors the model's parameters and buffers, whatever it held; weights that are tied stay tied."""
    tied: dict[int, nn.Parameter] = {}
    for name, p in list(model.named_parameters(remove_duplicate=False)):
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if id(p) not in tied:
            tied[id(p)] = nn.Parameter(tensors[name], requires_grad=False)
        module.register_parameter(last, tied[id(p)])
    for name, _ in list(model.named_buffers()):
        if name in tensors:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, tensors[name])
