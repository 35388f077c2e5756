"""Importance in a file: safetensors of float32, one tensor a parameter, and in its metadata how it was found."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.api import Problem, RecipeError, apply_umask, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

ANEW = "compute it with this recipe: fttool importance RECIPE -o FILE"


def write(path: Path, importance: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write the complete file, or nothing; `notes` say how the importance was found."""
    from safetensors.torch import save_file

    aside = path.with_name(f".{path.name}.partial")
    tensors = {name: values.detach().float().contiguous().cpu() for name, values in importance.items()}
    save_file(tensors, aside, metadata={"format": "pt", **{key: str(value) for key, value in notes.items()}})
    apply_umask(aside)
    aside.replace(path)


def check(path: Path, model: PreTrainedModel, names: Iterable[str], *, same_weights: bool) -> None:
    """Raise `RecipeError` where the file has no importance of `names` in this model; reads no tensor.

    With `same_weights`, the model must also have the weights with which the file was made.
    """
    parameters = dict(model.named_parameters())
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
        notes = file.metadata() or {}
    for name, shape in shapes.items():
        if name not in parameters:
            raise RecipeError(f"'{path}' is of another model: this one has no parameter '{name}'", hint=ANEW)
        if shape != tuple(parameters[name].shape):
            own = tuple(parameters[name].shape)
            raise RecipeError(f"'{path}' is of another model: '{name}' is {shape} there and {own} here", hint=ANEW)
    lacking = sorted(set(names) - shapes.keys())
    if lacking:
        raise RecipeError(
            f"'{path}' has no importance of {len(lacking)} parameters that train ('{lacking[0]}' …)", hint=ANEW
        )
    if same_weights and "weights" in notes and notes["weights"] != fingerprint({n: parameters[n] for n in shapes}):
        hint = f"{ANEW}; or keep it as that of an earlier task: previous = …"
        raise RecipeError(f"'{path}' was computed for other weights than this model's", hint=hint)


def read(path: Path, model: PreTrainedModel, names: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The importance of `names` on the model's device, and the notes; `RecipeError` for numbers that can be none."""
    importance: dict[str, Tensor] = {}
    with _opened(path) as file:
        for name in sorted(names):
            values = file.get_tensor(name).float().to(model.device)
            if not values.isfinite().all() or (values < 0).any():
                message = f"'{path}' holds numbers for '{name}' that are below 0 or not finite: no importance is"
                raise RecipeError(message, hint=ANEW)
            importance[name] = values
        return importance, dict(file.metadata() or {})


def fingerprint(parameters: Mapping[str, Tensor]) -> str:
    """A hash of some numbers of every parameter, which tells the weights of one model from those of another."""
    digest = hashlib.sha256()
    for name in sorted(parameters):
        values = parameters[name].detach().flatten()
        sample = values[:: max(1, values.numel() // 64)].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameters[name].shape)} ".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()[:32]


def missing(path: Path) -> Problem | None:
    """That there is no such file, and the name most like it."""
    if path.is_file():
        return None
    there = [sibling.name for sibling in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
    return Problem(f"the importance file '{path}' does not exist", hint=did_you_mean(path.name, there) or ANEW)


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    from safetensors import SafetensorError, safe_open

    problem = missing(path)
    if problem is not None:
        raise RecipeError(problem)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as fault:
        raise RecipeError(f"'{path}' is not a complete safetensors file: {fault}", hint=ANEW) from fault
