"""How far `fttool estimate` is off: ten recipes estimated on this machine, then run. One JSON object.

    python tests/benchmarks/estimating.py                    about twenty minutes on two cores
    python tests/benchmarks/estimating.py --only chat,lora   some of them
    python tests/benchmarks/estimating.py --quick            one, on a model so small that its figures mean nothing

Each recipe is estimated from five updates at two micro-batches, in processes of their own, and then run by
`fttool run`. What is compared is the seconds of the updates, as `summary.json` has them. The state of the user is left
alone: nothing is learned from one recipe for the next.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
import tomli_w
from workload import write_model, write_rows

MEDIAN_ERROR, LARGEST_ERROR = 0.10, 0.25
"""Of the predicted seconds, relative to those that a run took."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "chat": {},
    "text": {"data": "text"},
    "padded": {"batching": {"name": "padded"}},
    "packed": {"batching": {"name": "packed", "max_length": 512}, "run": {"micro_batch": 2, "global_batch": 4}},
    "recomputed": {"model": {"gradient_checkpointing": True}},
    "larger": {"model": {"source": "larger"}},
    "top-layers": {"freezing": {"name": "top-layers", "n": 2}},
    "gradual": {"freezing": {"name": "gradual", "every": 5}},
    "lora": {"freezing": {"name": "lora", "rank": 8}},
    "classification": {"data": "labelled", "task": "classification"},
}
"""What differs from the first one, whose rows are conversations and whose weights all train."""
DATA: Mapping[str, Mapping[str, Any]] = {
    "chat": {"path": "chat.jsonl", "format": "messages"},
    "text": {"path": "full.jsonl", "format": "text"},
    "labelled": {"path": "labelled.jsonl", "format": "labelled"},
}


def main() -> None:
    """Estimate and run them, and print how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one recipe, few updates")
    parser.add_argument("--only", default="", help="names of recipes, with commas between them")
    parser.add_argument("--updates", type=int, default=None, help="of each run; default: 60, or 6 with --quick")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else ["chat"] if options.quick else list(RECIPES)
    updates = options.updates or (6 if options.quick else 60)
    found: dict[str, Any] = {"benchmark": "estimating", "machine": report.machine(), "updates": updates, "recipes": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, quick=options.quick)
        for one in names:
            print(f"… {one}", file=sys.stderr, flush=True)
            found["recipes"][one] = compared(folder, one, updates, measured=1 if options.quick else 5)
    errors = [one["error"] for one in found["recipes"].values()]
    found["error"] = report.figure(errors, at_most=MEDIAN_ERROR)
    found["largest_error"] = report.figure([max(errors)], at_most=LARGEST_ERROR)
    found["inside"] = sum(one["inside"] for one in found["recipes"].values())
    report.show(found)


def write_inputs(folder: Path, *, quick: bool) -> None:
    """Two models and three files of rows."""
    small = {"layers": 2, "hidden": 64, "inner": 64}
    write_model(folder / "model", **(small if quick else {}), tie_word_embeddings=False)
    write_model(folder / "larger", **(small if quick else {"layers": 8, "hidden": 512, "inner": 1536}))
    number = 32 if quick else 512
    write_rows(folder, full_rows=number, full_length=64 if quick else 128, chat_rows=number)
    with (folder / "labelled.jsonl").open("w", encoding="utf-8") as file:
        for index, line in enumerate((folder / "chat.jsonl").read_text(encoding="utf-8").splitlines()):
            text = " ".join(turn["content"] for turn in json.loads(line)["messages"])
            file.write(json.dumps({"text": text, "label": ("ham", "spam")[index % 2]}) + "\n")


def write_recipe(folder: Path, name: str, updates: int) -> Path:
    """One of `RECIPES`."""
    changes = dict(RECIPES[name])
    kind = str(changes.pop("data", "chat"))
    recipe: dict[str, Any] = {
        "recipe": 1,
        "run": {"output": str(folder / "runs"), "max_steps": updates, "micro_batch": 4, "global_batch": 8},
        "model": {"source": "model"},
        "data": {"train": [DATA[kind]]},
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "precision": "fp32",
    }
    for table, values in changes.items():
        recipe[table] = {**recipe.get(table, {}), **values} if isinstance(values, dict) else values
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


def compared(folder: Path, name: str, updates: int, measured: int) -> dict[str, Any]:
    """What was predicted of a recipe's updates, and what they took."""
    recipe = str(write_recipe(folder, name, updates))
    estimate = json.loads(fttool(folder, ["estimate", recipe, "--json", "--quiet", "--updates", str(measured)]))
    fttool(folder, ["run", recipe, "--quiet", "--no-save"])
    summary = json.loads((folder / "runs" / name / "summary.json").read_text(encoding="utf-8"))
    low, middle, high = estimate["places"][0]["seconds"]["updates"]
    actual = summary["seconds"]
    return {
        "predicted": float(f"{middle:.4g}"),
        "actual": float(f"{actual:.4g}"),
        "error": abs(middle - actual) / actual,
        "inside": low <= actual <= high,
    }


def fttool(folder: Path, words: Sequence[str]) -> str:
    """What a verb prints; it keeps what it learns in `folder`, each recipe's apart from the others'."""
    state = folder / "state" / Path(words[1]).stem
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    done = subprocess.run([sys.executable, "-m", "fttool", *words], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
