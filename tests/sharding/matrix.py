"""The cells: each strategy that shapes an update, in a run short enough that hundreds of them can be made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

WORKER = Path(__file__).parent / "worker.py"

FAR = {"name": "adamw", "lr": 2e-2}
"""Takes a model so far within a few updates that its divergence from the start is no longer made of rounding."""
CELLS: dict[str, dict[str, Any]] = {
    "padded": {"batching": {"name": "padded"}, "run": {"max_steps": 14}},
    "bucketed": {"batching": {"name": "bucketed"}, "run": {"max_steps": 14}},
    "packed": {"batching": {"name": "packed", "max_length": 96}, "run": {"max_steps": 14}},
    "freezing-head-only": {"freezing": {"name": "head-only"}},
    "freezing-top-layers": {"freezing": {"name": "top-layers", "n": 1}},
    "freezing-gradual": {"freezing": {"name": "gradual", "every": 2}},
    "freezing-patterns": {"freezing": {"name": "patterns", "train": ["*.mlp.*"]}},
    "freezing-lisa": {"freezing": {"name": "lisa", "n": 1, "every": 2}},
    "freezing-bitfit": {"task": "classification", "freezing": {"name": "bitfit"}},
    "freezing-lora": {"freezing": {"name": "lora", "rank": 2}},
    "lora-dropout": {"freezing": {"name": "lora", "rank": 2, "dropout": 0.2}},
    "layer-rates": {"layer_rates": {"name": "discriminative", "decay": 0.5}},
    "schedule-wsd": {"schedule": {"name": "wsd", "warmup": 1, "decay": 3}},
    "schedule-constant": {"schedule": {"name": "constant", "warmup": 2}},
    "schedule-linear": {"schedule": {"name": "linear", "warmup": 2}},
    "schedule-cosine-restarts": {"schedule": {"name": "cosine-restarts", "warmup": 2, "cycles": 2}},
    "schedule-polynomial": {"schedule": {"name": "polynomial", "warmup": 2}},
    "schedule-inverse-sqrt": {"schedule": {"name": "inverse-sqrt", "warmup": 2}},
    "schedule-slanted-triangular": {"schedule": {"name": "slanted-triangular"}},
    "schedule-exponential": {"schedule": {"name": "exponential"}},
    "optimizer-sgd": {"optimizer": {"name": "sgd", "lr": 0.05}},
    "optimizer-adafactor": {"optimizer": {"name": "adafactor", "lr": 1e-3}},
    "optimizer-muon": {"optimizer": {"name": "muon", "lr": 1e-3}},
    "l2-init": {"regularizers": [{"name": "l2-init", "strength": 0.1}]},
    "l2-sp-decoupled": {"regularizers": [{"name": "l2-sp", "alpha": 1.0, "decoupled": True}]},
    "ewc": {"regularizers": [{"name": "ewc", "strength": 1.0, "examples": 8}]},
    "kl-init": {"optimizer": FAR, "regularizers": [{"name": "kl-init", "strength": 1.0}]},
    "kl-init-general": {
        "optimizer": FAR,
        "regularizers": [{"name": "kl-init", "strength": 1.0, "on": "general"}],
    },
    "mixout": {"regularizers": [{"name": "mixout", "p": 0.5}]},
    "ema": {"regularizers": [{"name": "ema", "decay": 0.8}]},
    "wise-ft": {"regularizers": [{"name": "wise-ft", "alpha": 0.7}]},
    "gradual-l2-init": {
        "freezing": {"name": "gradual", "every": 2},
        "regularizers": [{"name": "l2-init", "strength": 0.1}],
    },
    "replay": {"mixing": {"name": "replay", "share": 0.25}, "batching": {"name": "bucketed", "pool": 1}},
    "head-in-parts": {"task": {"name": "sft", "head_chunk": 5}},
    "checkpointing": {"model": {"gradient_checkpointing": True}},
    "best-is-earlier": {
        "optimizer": {"name": "sgd", "lr": 4.0, "max_grad_norm": 1.0},
        "evaluation": {"samples": 0, "every": 1, "best": "loss"},
    },
    "early-stopping": {"evaluation": {"samples": 0, "every": 1, "early_stopping": 1, "best": "loss"}},
    "classification": {"task": "classification", "regularizers": [{"name": "l2-sp"}]},
    "token-classification": {"task": "token-classification"},
}
"""Name → what it changes in the base recipe of its task."""
SCHEDULES = tuple(cell for cell in CELLS if cell.startswith("schedule-"))
PARTS = ("freezing-head-only", "freezing-top-layers", "freezing-patterns", "freezing-bitfit", "freezing-lora")
TWICE = ("freezing-gradual", "l2-init", "optimizer-sgd", "bucketed")
"""Cells whose strategy another one has too: `gradual-l2-init`, those by `classifying`, `replay`."""
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "ddp": (*SCHEDULES, *PARTS, *TWICE, "layer-rates", "l2-sp-decoupled", "early-stopping"),
    "fsdp": (*TWICE, *(cell for cell in SCHEDULES if cell != "schedule-wsd")),
    "zero-2": (*SCHEDULES, *PARTS, *TWICE, "lora-dropout", "checkpointing", "replay", "early-stopping"),
    "zero-3": (*SCHEDULES, *TWICE, "freezing-patterns", "layer-rates", "replay", "early-stopping"),
}
"""Sharding → cells that only the whole matrix has under it, as they add nothing to what the others show.

A schedule knows nothing of processes. Under `ddp` each holds all weights, so what a strategy does to one weight it does
to its copies. Which rows are read and when a run stops is the same code under any engine. ZeRO's stages differ in how
they cut optimizer state and weights: what keeps state or looks at weights is made under both.
"""


SHARDINGS: dict[str, dict[str, Any]] = {
    "ddp": {"name": "ddp", "processes": 2},
    "fsdp": {"name": "fsdp", "processes": 2},
    "zero-2": {"name": "zero", "stage": 2, "processes": 2},
    "zero-3": {"name": "zero", "stage": 3, "processes": 2},
    "fsdp-3": {"name": "fsdp", "processes": 3, "state": "full", "reshard_after_forward": False},
}
MORE: dict[str, dict[str, Any]] = {
    "zero-1": {"name": "zero", "stage": 1, "processes": 2},
    "ddp-4": {"name": "ddp", "processes": 4},
    "zero-3-4": {"name": "zero", "stage": 3, "processes": 4},
}
WHOLE = os.environ.get("FTTOOL_MATRIX") == "whole"
"""True where all of the matrix is made, not the sample that every run of the tests makes."""
SHARDINGS |= MORE if WHOLE else {}
SAMPLE = ("padded", "packed", "freezing-gradual", "l2-init", "ewc")
"""Cells that are made in more processes too."""
DRAWN = ("lora-dropout", "mixout", "bf16-mixout")
"""Cells in which each process draws numbers of its own, and so has those of `ddp` and not of one process."""
IN_16_BITS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": {"name": "bf16"}, "regularizers": [{"name": "l2-init", "strength": 0.1}]},
    "bf16-mixout": {"precision": {"name": "bf16"}, "regularizers": [{"name": "mixout", "p": 0.5}]},
}
"""Cells that round differently in each engine, and so are near the others and not equal to them."""
RESUMED = ("packed", "freezing-lora", "gradual-l2-init", "ewc", "ema", "optimizer-adafactor", "optimizer-muon")
IMPOSSIBLE = {
    **{(f"zero-{stage}", cell): "flat pieces" for stage in "123" for cell in ("optimizer-muon", "optimizer-adafactor")},
    ("zero-3", "ema"): "ema looks at the weights after each update",
}
"""What `validate` refuses, and a part of what it says."""


def table() -> str:
    """Which cells have the numbers of one process or of `ddp`, for the page; with two processes."""
    shown = ["ddp", "fsdp", "zero-1", "zero-2", "zero-3"]
    lines = [["", *shown], ["---"] * (len(shown) + 1)]
    for cell in CELLS:
        same = "ddp" if cell in DRAWN else "="
        lines.append([cell, *("refused" if (sharding, cell) in IMPOSSIBLE else same for sharding in shown)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def base(model: Path, rows: Path, general: Path) -> dict[str, Any]:
    """Chats of uneven length, an epoch whose last update is short, evaluation on the way."""
    return {
        "recipe": 1,
        "run": {"max_steps": 8, "micro_batch": 2, "global_batch": 8, "log_every": 1},
        "model": {"source": str(model)},
        "data": {
            "eval_share": 0.2,
            "train": [{"path": str(rows)}],
            "general": [{"path": str(general)}],
        },
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "precision": {"name": "fp32"},
        "evaluation": {"samples": 0, "every": 4},
        "checkpoints": {"every": 3, "keep": 9},
    }


def classifying(like: Mapping[str, Any], encoder: Path, rows: Path) -> dict[str, Any]:
    """The same with an encoder and a new head, on texts of uneven length.

    By SGD: the biases of an encoder's keys have a gradient of 0, of whose rounding Adam would make steps.
    """
    return {
        **like,
        "task": "classification",
        "optimizer": {"name": "sgd", "lr": 0.1},
        "model": {"source": str(encoder)},
        "data": {"eval_share": 0.2, "train": [{"path": str(rows)}]},
    }


def tagging(like: Mapping[str, Any], rows: Path) -> dict[str, Any]:
    """The same of the encoder that is `classifying`, with a tag for each word."""
    return {**like, "task": "token-classification", "data": {"eval_share": 0.2, "train": [{"path": str(rows)}]}}


def write_tags(path: Path, number: int) -> Path:
    """Sentences of two to a dozen words, some of which are names."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(number):
            words = [str((index + step) % 24) for step in range(2 + index * 7 % 11)]
            file.write(json.dumps({"tokens": words, "tags": ["B-ODD" if int(w) % 2 else "O" for w in words]}) + "\n")
    return path


def write_texts(path: Path, number: int) -> Path:
    """Texts of two to a dozen words, and which of three words each begins with."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(number):
            words = " ".join(str((index + step) % 24) for step in range(1 + index * 7 % 11))
            file.write(json.dumps({"text": f"{'abc'[index % 3]} {words}", "label": "abc"[index % 3]}) + "\n")
    return path


def write_rows(path: Path, number: int, first: int = 0) -> Path:
    """Conversations whose answers have from one to a dozen sentences."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(first, first + number):
            answer = " ".join(f"After {index} comes {index + step}." for step in range(1, 2 + index * 7 % 12))
            turns = [
                {"role": "user", "content": f"What comes after {index}?"},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


@dataclass(frozen=True)
class Outcome:
    """What a cell left behind."""

    run_dir: Path

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.run_dir / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]

    @cached_property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_dir / "summary.json").read_text())


def recipe_of(cell: str, bases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The cell's recipe; `bases` are what cells change, by task."""
    changes = (CELLS | IN_16_BITS)[cell]
    task = changes.get("task", "sft")
    base = bases[task if isinstance(task, str) else task["name"]]
    merged = {table: {**base[table], **changes.get(table, {})} for table in ("run", "model")}
    saved = {} if cell in RESUMED else {"checkpoints": {"every": base["run"]["max_steps"]}}
    return {**base, **changes, **merged, **saved}


def run_cells(
    folder: Path, bases: Mapping[str, Mapping[str, Any]], cells: Iterable[str], sharding: Mapping[str, Any]
) -> dict[str, Outcome | str]:
    """Run cells under one sharding; a cell that was refused is what was said."""
    return run_recipes(folder, {name: under(sharding, recipe_of(name, bases)) for name in cells})


def under(sharding: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with that sharding."""
    return {**recipe, "sharding": dict(sharding)}


def run_recipes(
    folder: Path, recipes: Mapping[str, Mapping[str, Any]], *, resume: bool = False, **environment: str
) -> dict[str, Outcome | str]:
    """Run recipes by their names, in the order of these, each under its own sharding, in the same processes.

    What has run under ZeRO runs nothing else: DeepSpeed's settings stay with its processes. So it comes last.
    """
    folder.mkdir(exist_ok=True)
    [processes] = {recipe["sharding"].get("processes", 1) for recipe in recipes.values()}
    for name, given in recipes.items():
        recipe = {**given, "run": {**given["run"], "name": name, "output": str(folder / "runs")}}
        (folder / f"{name}.toml").write_text(tomli_w.dumps(recipe))
    command = [sys.executable, str(WORKER), str(folder), *(["--resume"] if resume else [])]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *command[1:]]
    there = {**os.environ, **environment}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600, env=there)
    errors = {file.stem: file.read_text() for file in folder.glob("*.error")}
    assert done.returncode == 0, f"{errors}\n{done.stderr}"
    found: dict[str, Outcome | str] = {}
    for name in recipes:
        error = folder / f"{name}.0.error"
        found[name] = error.read_text() if error.exists() else Outcome(folder / "runs" / name)
    return found
