"""The number format of each weight in the saved model: that of the source's files, unless the recipe names one.

A run computes on float32 masters whatever its source holds, and checkpoints keep those. The final weights are rounded
once, at the end and before they are measured, so that the metrics are those of what is saved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fttool.errors import ModelError, Problem


@dataclass(frozen=True)
class Formats:
    """What each weight is saved in."""

    by_name: Mapping[str, torch.dtype]
    otherwise: torch.dtype | None
    """Of weights that are not in `by_name`; None: as they are."""

    def of(self, name: str, tensor: Tensor) -> torch.dtype:
        """The format in which this tensor is saved."""
        if not tensor.is_floating_point():
            return tensor.dtype
        return self.by_name.get(name) or self.otherwise or tensor.dtype


def saved_formats(asked: str, stored: Mapping[str, str]) -> Formats:
    """Those that `[checkpoints] dtype` asks for.

    With `source` a weight has the format that its file has under the same name, others the most common one of the
    files: transformers renames and joins tensors of some architectures while it loads them.
    """
    if asked != "source":
        return Formats({}, getattr(torch, asked))
    by_name: dict[str, torch.dtype] = {name: getattr(torch, spelled) for name, spelled in stored.items()}
    most_common = Counter(by_name.values()).most_common(1)
    return Formats(by_name, most_common[0][0] if most_common else None)


@torch.no_grad()
def rounded(weights: Iterable[tuple[str, Tensor]], formats: Formats) -> bool:
    """Round the weights in place to what will be saved of them; True where their format there holds less than theirs.

    The answer is by formats alone, so that it is the same in all processes, whichever share of a weight each has.
    """
    any_lost = False
    for name, p in weights:
        saved = formats.of(name, p)
        if torch.promote_types(saved, p.dtype) != saved:
            p.copy_(_in(saved, name, p))
            any_lost = True
    return any_lost


@torch.no_grad()
def put_into(formats: Formats, model: nn.Module) -> None:
    """Put the model's weights into the formats that they are saved in; those that are tied stay tied."""
    for name, p in model.named_parameters():
        p.data = _in(formats.of(name, p), name, p.data)
    saved = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        # A buffer that the files lack is computed in its own format: `checkpoints.dtype` means weights alone.
        known = name in formats.by_name or not formats.by_name
        if name in saved and known:
            buffer.data = _in(formats.of(name, buffer), name, buffer.data)


def _in(dtype: torch.dtype, name: str, tensor: Tensor) -> Tensor:
    """The tensor in another format; `ModelError` where that one has no numbers as large."""
    converted = tensor.to(dtype)
    if dtype == torch.float16 and bool((converted.isinf() & tensor.isfinite()).any()):
        message = f"the weights in {name} are beyond float16, whose largest number is 65,504"
        hint = 'set checkpoints.dtype = "bfloat16" or "float32", and resume the run'
        raise ModelError(Problem(message, hint=hint, key=("checkpoints", "dtype")))
    return converted
