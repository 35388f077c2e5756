"""Runs in several processes: speed beside a plain script with the same engine, and what each process holds.

    python tests/benchmarks/sharding.py            about twenty minutes on two cores
    python tests/benchmarks/sharding.py --quick    a minute; shows that it works, its times mean nothing

Speed is compared with `plain_trainer.py`, transformers' own Trainer under torchrun, on the same model, rows, batches,
seed and number format (float32), in two processes of one thread each, which speak over gloo. Every token is learned and
no slot is padding, so both have the same work; where their losses differ, it ends. Both run at once and take turns,
update by update: a ratio is one of two updates that follow each other, a round's the median of its ratios.

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
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
import turns
import workload
from contestants import planned, prepared_run
from workload import LR, SEED, WARMUP, Case, write_recipe

from fttool.launch.worker import leave
from fttool.recipe.reading import load
from fttool.rundir.record import Record
from fttool.runs.run import run
from fttool.watch.screen import Screen
from fttool.world import World

OF_PLAIN = 0.97
"""Slots a second over the plain script's."""
CURVE = 1e-5
"""Relative difference of losses."""
OVER_FORMULA = 1.05
"""Bytes of the process that holds the most, over those of the formula."""

HERE = Path(__file__).parent
HELD = ("parameter", "gradient", "optimizer")
SECONDS = "seconds.json"
"""File in a run directory: of each update."""

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
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round of few updates, few engines")
    parser.add_argument("--rounds", type=int, default=None, help="default: 5, or 1 with --quick")
    parser.add_argument("--child", type=Path, metavar="RECIPE", help=argparse.SUPPRESS)
    parser.add_argument("--turn", choices=("first", "second"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.turn)
        return
    rounds, quick = options.rounds or (1 if options.quick else 5), options.quick
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
        workload.write_rows(
            folder, full_rows=PROCESSES * case.updates * case.micro_batch, full_length=length, chat_rows=1
        )
        found["parameters"] = parameters
        found["slots_per_update"] = PROCESSES * case.micro_batch * length
        found |= speed(folder, case, rounds, ("fsdp",) if quick else tuple(ENGINES))
        found |= held(folder, parameters, quick)
    report.show(found)


# -- speed ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A run of each, made in turns; seconds are those of the clock and of the first process's processor time."""

    fttool: list[list[float]]
    """Seconds of each update."""
    plain: list[list[float]]
    difference: float
    """The largest relative difference of the losses that fttool has logged to the plain script's."""

    def ratio(self, clock: int) -> float:
        """Of fttool's speed over the plain script's: the median over all pairs of updates."""
        return statistics.median(
            theirs[clock] / ours[clock] for ours, theirs in zip(self.fttool, self.plain, strict=True)
        )

    def fastest(self, who: str) -> float:
        """Milliseconds of the fastest update."""
        return 1000 * min(update[0] for update in getattr(self, who))


def speed(folder: Path, case: Case, rounds: int, engines: Sequence[str]) -> dict[str, Any]:
    """Slots a second of fttool over those of the plain script, by engine."""
    write_job(folder, case)
    turns.make(folder)
    pairs: dict[str, list[Pair]] = {engine: [] for engine in engines}
    for number in range(rounds):
        for engine in engines:
            made = pair(folder, engine, replace(case, sharding=ENGINES[engine]), number)
            note(f"round {number + 1} of {rounds}: {engine}, {made.ratio(0):.3f} of the plain script's speed")
            pairs[engine].append(made)
    return {"fttool_over_plain": {engine: compared(rounds) for engine, rounds in pairs.items()}}


def compared(pairs: list[Pair]) -> dict[str, Any]:
    """Ratios of speed and what is behind them."""
    return {
        "clock": report.figure([one.ratio(0) for one in pairs], at_least=OF_PLAIN),
        "processor": report.figure([one.ratio(1) for one in pairs]),
        "fastest_update": report.figure([one.fastest("plain") / one.fastest("fttool") for one in pairs]),
        "fastest_update_milliseconds": {
            who: report.figure([one.fastest(who) for one in pairs]) for who in ("fttool", "plain")
        },
        "largest_relative_difference_of_losses": report.figure([one.difference for one in pairs], at_most=CURVE),
    }


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


def pair(folder: Path, engine: str, case: Case, number: int) -> Pair:
    """A run of each; in odd rounds the plain script makes the first update."""
    name = f"{engine}-{number}"
    order = ("second", "first") if number % 2 else ("first", "second")
    ours = ["--child", str(write_recipe(folder, case, name)), "--turn", order[0]]
    processes(PROCESSES, [__file__, *ours], [str(HERE / "plain_trainer.py"), str(folder), engine, order[1]])
    plain, run_dir = json.loads((folder / f"plain-{engine}.json").read_text()), folder / "runs" / name
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    off = difference({line["step"]: line["loss"] for line in lines if "loss" in line}, plain["losses"])
    assert off < CURVE, f"{engine}: losses differ by {off}, so this was not the same work"
    return Pair(json.loads((run_dir / SECONDS).read_text()), plain["seconds"], off)


def difference(logged: dict[int, float], losses: list[float]) -> float:
    """The largest relative difference of mean losses since the line before, by its update, to those of each update."""
    found, before = 0.0, 0
    for step, loss in logged.items():
        expected = statistics.mean(losses[before:step])
        found, before = max(found, abs(loss - expected) / expected), step
    assert before
    return found


# -- what is held --------------------------------------------------------------------------------------------------


def held(folder: Path, parameters: int, quick: bool) -> dict[str, Any]:
    """Bytes per parameter of the process that holds the most after an update, and those of the formula."""
    found: dict[str, Any] = {"one_process": {"none": cell(folder, parameters, {"name": "none"}, "fp32", 16)}}
    if quick:  # of the run that was made beside the plain script
        found["two_processes"] = {"fsdp": counted(folder / "runs" / "fsdp-0", parameters, "fp32", 16 / PROCESSES)}
        return {"bytes_per_parameter": found}
    for number, words in {2: "two_processes", 4: "four_processes"}.items():
        of_number = found.setdefault(words, {})
        for name, (table, precision, (own, shared)) in CELLS.items():
            table = {**table, "processes": number}
            of_number[name] = cell(folder, parameters, table, precision, own + shared / number)
            note(f"{name} in {number} processes: {of_number[name]['most']} bytes per parameter")
    return {"bytes_per_parameter": found}


def cell(folder: Path, parameters: int, table: dict[str, Any], precision: str, formula: float) -> dict[str, Any]:
    """A short run under one sharding; one that shards nothing is made in this process."""
    case = Case("full", WARMUP + 1, 1, sharding=table, precision=precision)
    name = "-".join(["held", *(str(value) for value in table.values())])
    recipe = write_recipe(folder, case, name)
    if "processes" in table:
        processes(table["processes"], [__file__, "--child", str(recipe)])
    else:
        run(load(recipe), Screen())
    return counted(folder / "runs" / name, parameters, precision, formula)


def counted(run_dir: Path, parameters: int, precision: str, formula: float) -> dict[str, Any]:
    """What the processes of a finished run have held."""
    ranks = json.loads((run_dir / "summary.json").read_text())["sharding"]["ranks"]
    each = [sum(rank[f"{what}_bytes"] for what in HELD) / parameters for rank in ranks]
    return {
        "precision": precision,
        "formula": round(formula, 3),
        "most": round(max(each), 3),
        "least": round(min(each), 3),
        "most_over_formula": report.figure([max(each) / formula], at_most=OVER_FORMULA),
    }


# -- processes -----------------------------------------------------------------------------------------------------


def processes(number: int, *scripts: list[str]) -> None:
    """Run scripts at once, each in several processes of one thread, as torchrun does; where one fails, all end."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as said:
        started = [
            subprocess.Popen([sys.executable, *launcher, *words], stdout=said, stderr=said, env=environment)
            for words in scripts
        ]
        while any(one.poll() is None for one in started) and not any(one.poll() for one in started):
            time.sleep(0.2)
        for one in started:
            one.terminate()
            one.wait()
        if any(one.returncode for one in started):
            said.seek(0)
            raise SystemExit(said.read())


def child(recipe: Path, turn: str | None) -> None:
    """One process of a run of fttool."""
    loaded, took = load(recipe), None
    if turn is not None:
        import transformers.trainer

        took = turns.Turns(recipe.parent, "fttool", first=turn == "first")
        transformers.trainer.DEFAULT_CALLBACKS.append(took)
    run(loaded, Screen())
    if took is not None and World.here().first:
        (Record.place(loaded) / SECONDS).write_text(json.dumps(took.seconds))
    leave(0)


def note(what: str) -> None:
    """Say what is going on."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
