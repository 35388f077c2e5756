"""Pickles in a checkpoint that somebody else has written: do they hold data alone?

torch's distributed checkpoints and DeepSpeed read them without a limit, and to read a pickle is to call whatever it
names. So each of them is read here first, by readers that know tensors and the few classes below, and nothing else:
what they can read has nothing in it that could be called.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from enum import EnumMeta
from pathlib import Path
from typing import Any

METADATA = {
    "torch.distributed.checkpoint.metadata": (
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "torch": ("Size",),
    "collections": ("OrderedDict",),
    "pathlib": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),
    "pathlib._local": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"),  # Python 3.13
}
"""What a distributed checkpoint's list of contents is made of, by module, beside number formats (`torch.float32`)."""


GETATTR = ("builtins", "getattr")
"""By which Python up to 3.11.3 pickles a member of an enumeration."""


def _member(kind: Any, name: Any) -> Any:
    """What `getattr` gives there, and nothing else that it could be asked for."""
    if not (isinstance(kind, EnumMeta) and isinstance(name, str) and name in kind.__members__):
        raise pickle.UnpicklingError("it names builtins.getattr")
    return kind[name]


class _Contents(pickle.Unpickler):
    """Reads such a list."""

    def find_class(self, module: str, name: str, /) -> Any:
        import torch

        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        if (module, name) == GETATTR:
            return _member
        if name not in METADATA.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def code_in_distributed(checkpoint: Path) -> str:
    """Of a checkpoint with distributed checkpoints in it: which file holds more than data, and what; empty if none."""
    return _first(_wrong_in_distributed(file) for file in sorted(checkpoint.rglob("*.metadata")))


def code_in_deepspeed(checkpoint: Path) -> str:
    """The same for DeepSpeed's, of which the file `latest` says in which folder they are."""
    tag = (checkpoint / "latest").read_text(encoding="utf-8", errors="replace").strip()
    if (checkpoint / tag).resolve().parent != checkpoint.resolve():
        return f"latest: it names '{tag}', which is not a folder of the checkpoint"
    return _first(_wrong_in_deepspeed(file) for file in sorted(checkpoint.rglob("*.pt")))


def _first(names: Iterable[str]) -> str:
    return next(filter(None, names), "")


def _wrong_in_distributed(file: Path) -> str:
    """The list of contents, and each value that it says is pickled; tensors torch reads with a limit by itself."""
    import torch
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex

    inside = file
    try:
        with file.open("rb") as opened:
            metadata = _Contents(opened).load()
        for name, kind in metadata.state_dict_metadata.items():
            place = metadata.storage_data[MetadataIndex(name)] if isinstance(kind, BytesStorageMetadata) else None
            if place is not None:
                inside = file.parent / place.relative_path
                if inside.parent != file.parent or getattr(place, "transform_descriptors", None):
                    return f"{file.parent.name}/.metadata: it names '{place.relative_path}'"
                with inside.open("rb") as opened:
                    opened.seek(place.offset)
                    torch.load(io.BytesIO(opened.read(place.length)), weights_only=True)
    except Exception as wrong:  # whatever is not as it must be is not read without a limit
        return f"{inside.parent.name}/{inside.name}: {_reason(wrong)}"
    return ""


def _wrong_in_deepspeed(file: Path) -> str:
    """What any file of `torch.save` may hold, and the state of DeepSpeed's loss scaling and partitions."""
    import torch
    from deepspeed.runtime.fp16 import loss_scaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    known: list[Any] = [loss_scaler.DynamicLossScaler, loss_scaler.LossScaler, ZeroStageEnum, fragment_address]
    known.append((_member, ".".join(GETATTR)))
    try:
        with torch.serialization.safe_globals(known):
            torch.load(file, map_location="meta", weights_only=True, mmap=True)
    except Exception as wrong:
        return f"{file.parent.name}/{file.name}: {_reason(wrong)}"
    return ""


def _reason(wrong: Exception) -> str:
    """The first line of what torch says in a paragraph."""
    return next(iter(str(wrong).strip().splitlines()), type(wrong).__name__)[:200]
