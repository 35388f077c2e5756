"""What is audited: a recipe, or a bare file of rows, whose format is found by trying those that are installed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fttool.api import DataError, Problem, UsageError
from fttool.verbs import Fit, Loaded, fits, load_recipe, recipe_of, with_overrides

MODEL = "builtin:tiny-chat"
"""Whose tokenizer counts where nobody says: it comes with fttool."""
TASKS: Mapping[str, Mapping[str, Any]] = {
    "token": {"name": "sft"},
    "row": {"name": "classification"},
    "word": {"name": "token-classification"},
    "number": {"name": "classification", "kind": "regression"},
}


def audited(options: argparse.Namespace) -> tuple[Loaded, str]:
    """The recipe, or one made for a file; and in words how the rows are read."""
    target: Path = options.recipe
    if target.suffix == ".toml":
        if options.eval:
            raise UsageError("--eval goes with a file of rows", hint="a recipe has its own: [[data.eval]]")
        loaded = load_recipe(options)
        if options.model:
            loaded = with_overrides(loaded, {"model.source": _source(options.model)})
        return loaded, "as the recipe says"
    if not target.exists():
        raise UsageError(f"there is no '{target}'", hint="name a recipe (.toml), a file of rows, or a folder of texts")
    table: dict[str, Any] = {"path": str(target)}
    data: dict[str, Any] = {"train": [table]}
    proposed: dict[str, Any] = {"recipe": 1, "model": {"source": _source(options.model or MODEL)}, "data": data}
    said = "as --set says"
    if not any(override.replace(" ", "").startswith("data.train.0.format=") for override in options.overrides):
        fit = fitting(target, recipe_of(proposed))
        table["format"] = fit.format
        proposed |= _for(fit)
        said = f"format {fit.format}, which reads {fit.taken} of the first {fit.tried} rows"
    if options.eval:
        data["eval"] = [{**table, "path": str(path)} for path in options.eval]
    return recipe_of(proposed, options.overrides), said


def fitting(file: Path, loaded: Loaded) -> Fit:
    """The format that reads most of the first rows."""
    found = fits(file, loaded.plugins)
    if not found:
        hint = f"name one with its options: --set 'data.train.0.format={{name = \"…\"}}', as on {FORMATS}"
        raise DataError(Problem("no installed format reads half of the first rows", str(file), hint))
    return found[0]


FORMATS = "docs/strategies/format.md"


def _source(model: str) -> str:
    """A model as a recipe names it: a run's, a folder's from here, or what is a source or a hub id as it stands."""
    path = Path(model)
    if (path / "recipe.resolved.toml").is_file():
        path = path / "model"
    if not path.exists() and "/" not in model and ":" not in model:
        raise UsageError(f"there is no '{model}' here", hint="name a model's folder, or a source: builtin:tiny-chat")
    return str(path.absolute()) if path.exists() else model


def _for(fit: Fit) -> dict[str, Any]:
    """The task and the masking for such rows."""
    proposed: dict[str, Any] = {"task": dict(TASKS[fit.level])}
    if fit.level == "token" and not fit.example.messages:
        proposed["masking"] = "completion" if fit.example.prompt else "all"
    return proposed


def sample_of(file: Path, loaded: Loaded) -> Loaded:
    """A recipe for the rows of `file`, in one of the formats of `loaded` where it reads them, else in another one."""
    own = [table.format.id() for _, table in loaded.recipe.data.datasets()]
    level = loaded.recipe.task.learns
    found = fits(file, loaded.plugins)
    ranked = sorted(found, key=lambda fit: (fit.format not in own, fit.level != level))
    if not ranked:
        raise DataError(
            Problem("no installed format reads half of the first rows", str(file), "--against takes others")
        )
    fit = ranked[0]
    table = {"path": str(file), "format": fit.format}
    return recipe_of({"recipe": 1, "model": {"source": MODEL}, "data": {"train": [table]}, **_for(fit)})
