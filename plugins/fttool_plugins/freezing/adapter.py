"""A low-rank adapter on disk, as peft reads it: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.api import apply_umask

if TYPE_CHECKING:
    from peft import LoraConfig

NAME = "default"
"""peft's name for an adapter that has no other."""
DORA = ".lora_magnitude_vector"
"""How the names of DoRA's lengths end in peft's files."""


@dataclass(frozen=True)
class Adapter:
    """What was put into a model, and what trained in full beside it."""

    config: LoraConfig
    in_full: frozenset[str]
    """Names of parameters; peft calls their modules `modules_to_save`."""

    def save(self, model: Any, folder: Path, *, beside_weights: bool = False) -> None:
        """Write the adapter of `model` into `folder`.

        DoRA's lengths have two names: peft's own, which its `PeftModel` reads, and with `beside_weights` the one that
        `from_pretrained` of transformers finds, where base weights and adapter lie in one folder; peft reads it too.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        tensors: dict[str, Any] = get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)
        tensors |= {name: p for name, p in model.named_parameters() if name in self.in_full}
        if beside_weights:
            tensors = {f"{name}.weight" if name.endswith(DORA) else name: p for name, p in tensors.items()}
        folder.mkdir(exist_ok=True)
        save_file(
            {f"base_model.model.{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
        config = copy(self.config)
        config.inference_mode = True
        config.modules_to_save = sorted({name.rpartition(".")[0] for name in self.in_full}) or None
        config.save_pretrained(str(folder))
        apply_umask(folder)

    def save_apart(self, model: Any, folder: str | Path, **options: Any) -> None:
        """In place of `model.save_pretrained`: its weights as they were, under their own names, and the adapter."""
        own = {name.replace(".base_layer.", "."): p for name, p in model.state_dict().items() if ".lora_" not in name}
        type(model).save_pretrained(model, folder, **{**options, "state_dict": own})
        self.save(model, Path(folder), beside_weights=True)
