"""Memory and time of an update under each freezing strategy, over those of `full`: one JSON object.

    python tests/benchmarks/freezing.py            ten minutes on two cores
    python tests/benchmarks/freezing.py --quick    half a minute, on a model so small that its figures mean nothing

Every run is a fresh process over the same batches; with --quick all share one. Its peak is the resident set's high-
water mark above what the imports took; its time is that of the updates after the first two. A round runs each strategy
once, and ratios are taken within a round. The model is a Llama with biases and a head of its own, so that each strategy
has something to train; `gradual` is measured in its first stage, when the head alone trains.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
from memory import high_water, imported
from workload import Case, write_model, write_rows

MODES: dict[str, Any] = {
    "full": "full",
    "top-layers": {"name": "top-layers", "n": 2},
    "gradual": {"name": "gradual"},
    "lisa": {"name": "lisa", "n": 2, "every": 4},
    "bitfit": "bitfit",
    "head-only": "head-only",
    "lora": "lora",
}
TIME_OVER_FULL = {"top-layers": 0.7, "gradual": 0.6, "head-only": 0.3}
"""An update's processor time, over that of `full`."""
MEMORY_OVER_FULL = {"top-layers": 0.65, "gradual": 0.5, "lisa": 0.95, "bitfit": 0.75, "head-only": 0.5}
"""Peak above the imports, over that of `full`."""


def main() -> None:
    """Run every strategy in turn, and print what it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round")
    parser.add_argument("--rounds", type=int, default=None, help="default: 3, or 1 with --quick")
    parser.add_argument("--child", nargs=2, metavar=("MODE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        mode, folder = options.child
        print(json.dumps(job(mode)(Path(folder), mode, False)))
        return
    rounds = options.rounds or (1 if options.quick else 3)
    found: dict[str, Any] = {"benchmark": "freezing", "machine": report.machine(), "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        found |= ask("prepare", folder, options.quick)
        runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
        for number in range(rounds):
            first = number % len(MODES)
            modes = [*MODES, *MODES][first : first + len(MODES)]
            print(f"round {number + 1} of {rounds}: {', '.join(modes)}", file=sys.stderr, flush=True)
            for mode in modes:
                runs[mode].append(ask(mode, folder, options.quick))
    found["trained_share"] = {mode: round(of_mode[0]["trained_share"], 4) for mode, of_mode in runs.items()}
    for name, key, targets in (
        ("time_over_full", "processor_seconds", TIME_OVER_FULL),
        ("clock_over_full", "seconds", {}),
        ("memory_over_full", "peak_mb", MEMORY_OVER_FULL),
    ):
        found[name] = {
            mode: report.figure(
                [one[key] / full[key] for one, full in zip(of_mode, runs["full"], strict=True)],
                at_most=targets.get(mode),
            )
            for mode, of_mode in runs.items()
            if mode != "full"
        }
    found["full"] = {
        key: report.figure([one[key] for one in runs["full"]]) for key in ("peak_mb", "seconds", "processor_seconds")
    }
    report.show(found)


def ask(mode: str, folder: str, quick: bool) -> Any:
    """What a child prints last. This process stays small: a child's high-water mark starts at ours.

    Quick ones are none: they are called here, where what each holds stands on the peak of those before it.
    """
    if quick:
        imported()
        return job(mode)(Path(folder), mode, quick)
    words = [sys.executable, __file__, "--child", mode, folder]
    answer = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(answer.splitlines()[-1])


# -- in a process of their own -------------------------------------------------------------------------------------


def prepare(folder: Path, _: str, quick: bool) -> dict[str, Any]:
    """Write model and rows."""
    size = {"layers": 4, "hidden": 64, "inner": 64} if quick else {"layers": 8, "hidden": 512, "inner": 1536}
    biased = {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}
    parameters = write_model(folder / "model", **size, **biased)
    write_rows(folder, full_rows=16 if quick else 32, full_length=128, chat_rows=1)
    return {"parameters": parameters, "layers": size["layers"]}


def measure(folder: Path, mode: str, quick: bool) -> dict[str, float]:
    """A whole run: its peak in MB, seconds per update, and the share of the model that it trains."""
    from contestants import LEFT_OUT, prepared_run

    imports = imported()
    updates = 6 if quick else 8
    # the second stage of `gradual`, which a run must reach, is its last update
    freezing = {**MODES[mode], "every": updates - 1} if mode == "gradual" else MODES[mode]
    case = Case("full", updates, 4 if quick else 8, freezing=freezing)
    go, prepared = prepared_run(folder, case, f"{mode}-{os.getpid()}")
    timed = go()
    peak = high_water() - imports
    groups = [group for group in prepared.update.groups if group.trains_before(case.updates)]
    counted = case.updates - LEFT_OUT
    return {
        "peak_mb": round(peak / 2**20, 1),
        "seconds": timed.seconds / counted,
        "processor_seconds": timed.processor_seconds / counted,
        "trained_share": sum(group.count for group in groups) / prepared.model.num_parameters(),
    }


def job(mode: str) -> Callable[[Path, str, bool], Any]:
    """What a child is for."""
    return prepare if mode == "prepare" else measure


if __name__ == "__main__":
    main()
