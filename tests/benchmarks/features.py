"""What kept features save: an update of `head-only` with them, over one in which the backbone runs. One JSON object.

    python tests/benchmarks/features.py            three minutes on two cores
    python tests/benchmarks/features.py --quick    half a minute, on a model so small that its figures mean nothing

All run over the same batches for three epochs, in turn, in one process. With features the backbone runs once over all
rows before the first update; what that takes is given in epochs of the run without them. The model is a Llama with a
head of its own that has a fifth of the multiplications of a forward pass. In a larger model it has less, and an update
on features costs less still.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
from contestants import LEFT_OUT, prepared_run
from workload import Case, write_model, write_rows

EPOCHS = 3
UPDATE_WITH_OVER_WITHOUT = 0.4
"""An update's processor time with features, over one without."""
MODES: dict[str, dict[str, Any]] = {
    "with": {"name": "head-only"},
    "without": {"name": "head-only", "features": "off"},
    "in_a_file": {"name": "head-only", "memory_gb": 0},
}


def main() -> None:
    """Run with features and without on both kinds of rows, in turn, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round")
    parser.add_argument("--rounds", type=int, default=None, help="default: 3, or 1 with --quick")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 3)
    found: dict[str, Any] = {"benchmark": "features", "machine": report.machine(), "rounds": rounds}
    size = {"layers": 2, "hidden": 64, "inner": 64} if options.quick else {"layers": 8, "hidden": 384, "inner": 1024}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["parameters"] = write_model(folder / "model", **size, tie_word_embeddings=False)
        number, length = (16, 32) if options.quick else (96, 128)
        write_rows(folder, full_rows=number, full_length=length, chat_rows=number)
        for rows, kind in (("full", "fully_learned"), ("chat", "chat")):
            found[kind] = compare(folder, rows, rounds, updates=EPOCHS * number // 8)
    report.show(found)


def compare(folder: Path, rows: str, rounds: int, updates: int) -> dict[str, Any]:
    """Every mode in turn, each round in another order."""
    runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        first = number % len(MODES)
        for mode in [*MODES, *MODES][first : first + len(MODES)]:
            print(f"{rows}, round {number + 1} of {rounds}: {mode}", file=sys.stderr, flush=True)
            runs[mode].append(measure(folder, Case(rows, updates, 8, freezing=MODES[mode]), f"{rows}-{mode}-{number}"))

    def ratio(mode: str, key: str) -> list[float]:
        return [one[key] / plain[key] for one, plain in zip(runs[mode], runs["without"], strict=True)]

    def epochs(mode: str) -> list[float]:
        epoch = updates / EPOCHS
        return [
            one["computing"] / (epoch * plain["seconds"])
            for one, plain in zip(runs[mode], runs["without"], strict=True)
        ]

    return {
        "update_with_over_without": report.figure(ratio("with", "processor_seconds"), at_most=UPDATE_WITH_OVER_WITHOUT),
        "update_from_a_file_over_without": report.figure(
            ratio("in_a_file", "processor_seconds"), at_most=UPDATE_WITH_OVER_WITHOUT
        ),
        "clock_with_over_without": report.figure(ratio("with", "seconds")),
        "computing_them_in_epochs_without": report.figure(epochs("with")),
        "megabytes": runs["with"][0]["megabytes"],
    }


def measure(folder: Path, case: Case, name: str) -> dict[str, float]:
    """A whole run: seconds per update, and what computing the features took."""
    go, _ = prepared_run(folder, case, name)
    timed, counted = go(), case.updates - LEFT_OUT
    lines = (folder / "runs" / name / "events.jsonl").read_text(encoding="utf-8").splitlines()
    (event,) = (one for one in map(json.loads, lines) if one["event"].startswith("features_"))
    return {
        "seconds": timed.seconds / counted,
        "processor_seconds": timed.processor_seconds / counted,
        "computing": event.get("seconds", 0.0),
        "megabytes": round((event.get("memory_bytes", 0) + event.get("file_bytes", 0)) / 1e6, 1),
    }


if __name__ == "__main__":
    main()
