"""Runs in several processes: speed beside a plain script with the same engine, and what each process holds.

    python tests/benchmarks/sharding.py            about twenty minutes on two cores
    python tests/benchmarks/sharding.py --quick    two minutes; shows that it works, its times mean nothing

Speed is that of `plain_trainer.py`, transformers' own Trainer under torchrun, on the same model, rows, batches, seed and
number format (float32), in two processes of one thread each, which speak over gloo. Every token is learned and no slot
is padding, so both have the same work; their losses must be the same, or it ends. A round runs each once, in one order
or the other, and a ratio is one of that round.

What a process holds is what the run itself has counted: parameters, gradients and AdamW's state, over the number of
parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
import workload
from contestants import LEFT_OUT, Clock, planned, prepared_run
from workload import LR, SEED, WARMUP, Case, write_recipe

from fttool.recipe.reading import load
from fttool.runs.record import Record
from fttool.runs.run import run
from fttool.training.world import World

OF_PLAIN = 0.97
"""Slots a second over the plain script's."""
CURVE = 1e-5
"""Relative difference of losses."""
OVER_FORMULA = 1.05
"""Bytes of the process that holds the most, over those of the formula."""

HERE = Path(__file__).parent
ENDS = "ends.json"
"""File in a run directory: when each update ended."""

PROCESSES = 2
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {"name": "ddp", "processes": PROCESSES},
    "fsdp": {"name": "fsdp", "processes": PROCESSES},
    "zero": {"name": "zero", "stage": 2, "processes": PROCESSES},
}
"""What runs beside the plain script."""

CELLS: dict[str, tuple[dict[str, Any], str, tuple[int, int]]] = {
    "ddp": ({"name": "ddp"}, "fp32", (16, 0)),
    "fsdp": ({"name": "fsdp"}, "fp32", (0, 16)),
    "zero-1": ({"name": "zero", "stage": 1}, "bf16", (4, 12)),
    "zero-2": ({"name": "zero", "stage": 2}, "bf16", (2, 14)),
    "zero-3": ({"name": "zero", "stage": 3}, "bf16", (0, 16)),
}
"""Sharding, number format, and bytes per parameter: those that each process holds, and those that N share."""


def main() -> None:
    """Compare and count, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round of few updates, few cells")
    parser.add_argument("--rounds", type=int, default=None, help="default: 7, or 1 with --quick")
    parser.add_argument("--child", type=Path, metavar="RECIPE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    rounds, quick = options.rounds or (1 if options.quick else 7), options.quick
    found: dict[str, Any] = {"benchmark": "sharding", "machine": report.machine(), "rounds": rounds, "quick": quick}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if quick:
            case = Case("full", 4, 2)
            parameters = workload.write_model(folder / "model", layers=2, hidden=64, inner=64)
            length = 32
        else:
            case = Case("full", 16, 4)
            parameters = workload.write_model(folder / "model")
            length = 128
        workload.write_rows(folder, full_rows=PROCESSES * case.updates * case.micro_batch, full_length=length, chat_rows=1)
        found["parameters"] = parameters
        found["slots_per_update"] = PROCESSES * case.micro_batch * length
        found |= speed(folder, case, rounds)
        found |= held(folder, parameters, quick)
    report.show(found)


# -- speed ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Updates:
    """One run, as its first process has seen it."""

    seconds: list[tuple[float, float]]
    """Of each update that counts: on the clock, and of the first process's processor time."""
    losses: list[float]
    """Of each update, where they are of the plain script."""
    logged: dict[int, float] = field(default_factory=dict[int, float])
    """Mean loss since the line before, by the update after which it was logged, where they are of fttool."""


def speed(folder: Path, case: Case, rounds: int) -> dict[str, Any]:
    """Slots a second of fttool over those of the plain script, by engine."""
    write_job(folder, case)
    runs: dict[str, list[dict[str, Updates]]] = {engine: [] for engine in ENGINES}
    for number in range(rounds):
        for engine, table in ENGINES.items():
            contestants = {
                "fttool": partial(by_fttool, folder, replace(case, sharding=table), f"{engine}-{number}"),
                "plain": partial(by_plain, folder, engine),
            }
            made: dict[str, Updates] = {}
            for who in contestants if number % 2 == 0 else reversed(contestants):
                note(f"round {number + 1} of {rounds}: {engine}, {who}")
                made[who] = contestants[who]()
            assert difference(made["fttool"], made["plain"]) < CURVE, f"{engine}: other work has been done"
            runs[engine].append(made)
    return {"fttool_over_plain": {engine: compared(of_both) for engine, of_both in runs.items()}}


def write_job(folder: Path, case: Case) -> None:
    """What the plain script trains on: the rows in the order in which fttool meets them."""
    alone = replace(case, accumulation=PROCESSES * case.accumulation)
    _, prepared = prepared_run(folder, alone, "order")
    rows = [row.input_ids for batches in planned(prepared, alone) for batch in batches for row in batch]
    assert len({len(row) for row in rows}) == 1
    job = {
        "model": str(folder / case.model),
        "rows": rows,
        "updates": case.updates,
        "micro_batch": case.micro_batch,
        "accumulation": case.accumulation,
        "lr": LR,
        "warmup": WARMUP,
        "seed": SEED,
    }
    (folder / "plain.json").write_text(json.dumps(job))


def by_fttool(folder: Path, case: Case, name: str) -> Updates:
    """A run of fttool."""
    run_dir = launched(folder, case, name)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["loss"] for line in lines if "loss" in line}
    return Updates(seconds(json.loads((run_dir / ENDS).read_text())), [], logged)


def by_plain(folder: Path, engine: str) -> Updates:
    """A run of the plain script."""
    processes([str(HERE / "plain_trainer.py"), engine, str(folder)], PROCESSES)
    found = json.loads((folder / f"plain-{engine}.json").read_text())
    return Updates(seconds(found["ends"]), found["losses"])


def seconds(ends: list[list[float]]) -> list[tuple[float, float]]:
    """What lies between the ends of two updates, on both clocks."""
    return [(end[0] - begin[0], end[1] - begin[1]) for begin, end in pairwise(ends[LEFT_OUT - 1 :])]


def difference(ours: Updates, theirs: Updates) -> float:
    """The largest relative difference of the losses that fttool has logged to the plain script's."""
    found, before = 0.0, 0
    for step, loss in ours.logged.items():
        expected = statistics.mean(theirs.losses[before:step])
        found, before = max(found, abs(loss - expected) / expected), step
    assert before
    return found


def compared(rounds: list[dict[str, Updates]]) -> dict[str, Any]:
    """Ratios of speed within each round, and milliseconds."""

    def ratios(of: Callable[[Updates], float], at_least: float | None = None) -> dict[str, Any]:
        return report.figure([of(one["plain"]) / of(one["fttool"]) for one in rounds], at_least=at_least)

    return {
        "clock": ratios(fastest, OF_PLAIN),
        "median_update": ratios(median),
        "processor": ratios(partial(fastest, clock=1)),
        "milliseconds": {who: report.figure([1000 * fastest(one[who]) for one in rounds]) for who in rounds[0]},
        "largest_relative_difference_of_losses": report.figure(
            [difference(one["fttool"], one["plain"]) for one in rounds], at_most=CURVE
        ),
    }


def fastest(run: Updates, clock: int = 0) -> float:
    """Seconds of a run's fastest update: other work disturbs it least."""
    return min(update[clock] for update in run.seconds)


def median(run: Updates) -> float:
    """Seconds of a run's median update."""
    return statistics.median(update[0] for update in run.seconds)


# -- what is held --------------------------------------------------------------------------------------------------


def held(folder: Path, parameters: int, quick: bool) -> dict[str, Any]:
    """Bytes per parameter of the process that holds the most after an update, and those of the formula."""
    found: dict[str, Any] = {"one_process": {"none": cell(folder, parameters, {"name": "none"}, "fp32", 16)}}
    for number, words in {2: "two_processes", 4: "four_processes"}.items():
        of_number = found.setdefault(words, {})
        for name, (table, precision, (own, shared)) in CELLS.items():
            if quick and (number, name) not in ((2, "fsdp"), (2, "zero-3")):
                continue
            note(f"bytes: {name} in {number} processes")
            table = {**table, "processes": number}
            of_number[name] = cell(folder, parameters, table, precision, own + shared / number)
    return {"bytes_per_parameter": found}


def cell(folder: Path, parameters: int, table: dict[str, Any], precision: str, formula: float) -> dict[str, Any]:
    """A short run under one sharding."""
    case = Case("full", WARMUP + 1, 1, sharding=table, precision=precision)
    run_dir = launched(folder, case, "-".join(["held", *(str(value) for value in table.values())]))
    ranks = json.loads((run_dir / "summary.json").read_text())["sharding"]["ranks"]
    assert len(ranks) == table.get("processes", 1)
    each = [sum(rank.values()) / parameters for rank in ranks]
    return {
        "precision": precision,
        "formula": round(formula, 3),
        "most": round(max(each), 3),
        "least": round(min(each), 3),
        "most_over_formula": report.figure([max(each) / formula], at_most=OVER_FORMULA),
    }


# -- processes -----------------------------------------------------------------------------------------------------


def launched(folder: Path, case: Case, name: str) -> Path:
    """Run fttool on a case; returns the run directory."""
    recipe = write_recipe(folder, case, name)
    processes([__file__, "--child", str(recipe)], case.sharding.get("processes", 1))
    return folder / "runs" / name


def processes(words: list[str], number: int) -> None:
    """Run a script in several processes of one thread each, as torchrun does; what it says is shown if it fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"] if number > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launcher, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def child(recipe: Path) -> None:
    """One process of a run of fttool; the first notes when each update ended."""
    clock = Clock()
    loaded = load(recipe)
    run(loaded, clock)
    if World.here().first:
        (Record.place(loaded) / ENDS).write_text(json.dumps(clock.timed.ends))


def note(what: str) -> None:
    """Say what is going on."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
