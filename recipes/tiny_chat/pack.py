"""Turns the model of a finished run into the one in the wheel: bfloat16 weights, and only the files that loading needs.

python recipes/tiny_chat/pack.py runs/tiny-chat/model plugins/fttool_plugins/model/tiny_chat
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

KEPT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LIMIT = 4_000_000
"""Bytes that a wheel may give to a model for trying things."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model folder of the run")
    parser.add_argument("out", type=Path, help="folder to write into")
    options = parser.parse_args(arguments)
    pack(options.model, options.out)
    size = sum(file.stat().st_size for file in options.out.iterdir() if file.is_file())
    if size > LIMIT:
        parser.error(f"{options.out} has {size:,} bytes, and {LIMIT:,} are allowed: make the model smaller")
    print(f"{options.out}: {size:,} bytes")


def pack(model: Path, out: Path) -> None:
    """Write the bfloat16 copy of `model` to `out`; of a weight's 24 significant bits 8 are left."""
    out.mkdir(parents=True, exist_ok=True)
    weights = load_file(model / "model.safetensors")
    rounded = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in sorted(weights.items())}
    save_file(rounded, out / "model.safetensors", metadata={"format": "pt"})
    for name in KEPT:
        if (model / name).is_file():
            shutil.copyfile(model / name, out / name)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "bfloat16"
    (out / "config.json").write_bytes(f"{json.dumps(config, indent=2)}\n".encode())


if __name__ == "__main__":
    main()
