"""The number formats that weights have in their files; without torch, as model sources are listed without it."""

from __future__ import annotations

import json
from pathlib import Path

IN_FILES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Formats as the header of a safetensors file spells them, and as torch does."""


def stored_formats(folder: Path) -> dict[str, str]:
    """The format of each tensor of floats in a folder's safetensors, by its name; only the headers are read."""
    formats: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header: dict[str, dict[str, str]] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        tensors = {name: entry.get("dtype", "") for name, entry in header.items() if name != "__metadata__"}
        formats |= {name: IN_FILES[dtype] for name, dtype in tensors.items() if dtype in IN_FILES}
    return formats
