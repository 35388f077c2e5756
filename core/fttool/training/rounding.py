"""How far logits may be apart that are equal but for rounding, where kernels see them in other shapes."""

from __future__ import annotations

from collections.abc import Iterable

import torch

ROUNDINGS, ROUNDINGS_OF_16_BITS = 256, 8
"""Kernels of 16 bits keep sums in 32 and round each result once; in other formats a sum of thousands of products is
rounded in the format itself."""


def rounding(formats: Iterable[torch.dtype]) -> float:
    """What is allowed of logits of size 1 where shapes differ, in the coarsest of these formats."""
    return max(
        (ROUNDINGS_OF_16_BITS if torch.finfo(dtype).bits <= 16 else ROUNDINGS) * torch.finfo(dtype).eps
        for dtype in formats
    )
