"""Does TPE find in 20 trials a learning rate as good as the best of a grid of 60? One JSON object.

    python tests/benchmarks/searching.py                   the quickstart; two and a half hours on two cores
    python tests/benchmarks/searching.py --updates 20      runs of so many updates each; ten minutes
    python tests/benchmarks/searching.py --quick           six runs of three updates, whose figures mean nothing

The grid is even on a logarithmic scale over the range that TPE is given. How far losses differ by chance alone is the
standard deviation over further seeds, at the grid's best rate.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report

from fttool import load
from fttool.cli import main as fttool
from fttool.verbs import short_run

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
RATES = "1e-5..1e-2:log"
AT_MOST = 1.0
"""TPE's best loss over the grid's best and the seeds' standard deviation."""


def swept(name: str, words: Sequence[str], folder: Path, updates: int | None) -> dict[str, Any]:
    """What `fttool sweep --json` says of the quickstart."""
    said = io.StringIO()
    command = ["sweep", str(QUICKSTART), "--name", name, "--pruner", "none", "--json", *words]
    command += ["--set", f"run.output={folder}", "--set", "evaluation.samples=0"]
    command += [] if updates is None else ["--set", f"run.max_steps={updates}"]
    with redirect_stdout(said):
        code = fttool(command)
    if code:
        sys.exit(f"fttool sweep has ended with {code}")
    found = json.loads(said.getvalue())
    best = next(trial for trial in found["trials"] if trial["trial"] == found["best"][0])
    print(f"{name}: {best['values'][0]:.4f} at {best['chosen']['optimizer.lr']:.2e}", file=sys.stderr)
    return {
        "trials": len(found["trials"]),
        "lr": best["chosen"]["optimizer.lr"],
        "loss": best["values"][0],
        "losses": {f"{trial['chosen']['optimizer.lr']:.3g}": trial["values"] for trial in found["trials"]},
    }


def of_seeds(seeds: int, lr: float, folder: Path, updates: int | None) -> list[float]:
    """The loss at one rate with other seeds than the recipe's."""
    losses: list[float] = []
    for seed in range(100, 100 + seeds):
        changes: dict[str, Any] = {"optimizer.lr": lr, "run.seed": seed, "evaluation.samples": 0}
        changes |= {"run.output": str(folder), "run.name": f"seed-{seed}"}
        if updates is not None:
            changes["run.max_steps"] = updates
        losses.append(short_run(load(QUICKSTART, changes))["eval"]["after"]["loss"])
    return losses


def main() -> None:
    """The grid, TPE, and the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, help="of each run, instead of the quickstart's 333")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    points, trials, seeds, updates = (2, 2, 2, 3) if options.quick else (60, 20, 5, options.updates)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        over = f"optimizer.lr={RATES}"
        grid_words = ["--over", f"{over}:{points}", "--sampler", "grid", "--trials", str(points)]
        grid = swept("grid", grid_words, folder, updates)
        tpe = swept("tpe", ["--over", over, "--trials", str(trials)], folder, updates)
        losses = of_seeds(seeds, grid["lr"], folder, updates)
    noise = statistics.stdev(losses)
    report.show(
        {
            "benchmark": "searching",
            "machine": report.machine(),
            "updates": updates,
            "grid": grid,
            "tpe": tpe,
            "seeds": {"losses": losses, "standard_deviation": noise},
            "tpe_over_grid_and_noise": report.figure([tpe["loss"] / (grid["loss"] + noise)], at_most=AT_MOST),
        }
    )


if __name__ == "__main__":
    main()
