"""What comes of what advice warns of: pairs of runs, with the fault and without, over several seeds.

    python tests/benchmarks/advice.py            twenty minutes on two cores
    python tests/benchmarks/advice.py --quick    some pairs, one seed, few rows; shows that it works, and no more

The built-in model learns 96 questions about Python's standard library in updates of 8 rows, for 3 epochs at 5e-4, and
is measured on 80 others and on conversations of the kind that it was pre-trained on. A pair differs in the fault alone.
Its difference (loss with the fault − loss without) is taken seed by seed, and must be above the spread: the distance
between the best and the worst seed, of the pair's run that has the larger one. Rules of which this cannot be shown are
not there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report

from fttool.testing import run_recipe

DATA = Path(__file__).parents[2] / "recipes" / "data"
PULL = {"regularizers": [{"name": "l2-init", "strength": 50.0, "decoupled": True}]}
STOPPED = {"every": 12, "early_stopping": 2, "best": "loss"}
HALF = {"name": "bf16", "weights": "bfloat16"}
WIDE = {"data.train": "[:640]", "run.epochs": 2}
FEW = {"data.train": "[:32]", "data.eval": "[700:716]"}
"""A CPU without bfloat16 takes twelve times as long."""

RUNS: Mapping[str, Mapping[str, Any]] = {  # name → what differs from the recipe of `recipe`
    "standard": {},
    "low-rate": {"optimizer.lr": 1e-4},
    "replayed": {"mixing": {"name": "replay", "share": 0.25}},
    "edge-rate": {"optimizer.lr": 2e-4},
    "edge-replayed": {"optimizer.lr": 2e-4, "mixing": {"name": "replay", "share": 0.25}},
    "epochs-6": {"run.epochs": 6},
    "stopped-6": {"run.epochs": 6, "evaluation": STOPPED},
    "long": {"run.epochs": 12},
    "stopped": {"run.epochs": 12, "evaluation": STOPPED},
    "rows-1": {"run.micro_batch": 1, "run.global_batch": 1},
    "rows-2": {"run.micro_batch": 2, "run.global_batch": 2},
    "rows-3": {"run.micro_batch": 3, "run.global_batch": 3},
    "updates-3": {"run.global_batch": 96},
    "updates-9": {"run.global_batch": 32},
    "rows-320": {**WIDE, "run.global_batch": 320},
    "rows-16": {**WIDE, "run.global_batch": 16},
    "bfloat16": {**FEW, "optimizer.lr": 1e-4, "precision": HALF},
    "float32": {**FEW, "optimizer.lr": 1e-4, "precision": "bf16"},
    "pulled": PULL,
    "decayed": {**PULL, "optimizer.weight_decay": 0.1},
    "warmup-36": {"schedule": {"name": "cosine", "warmup": 0.999}},
    "rows-4": {"run.micro_batch": 4, "run.global_batch": 4},
}


@dataclass(frozen=True)
class Pair:
    """Two runs of which one has the fault."""

    fault: str
    without: str
    loss: Literal["eval", "retention"] = "eval"
    """On which rows it shows."""


PAIRS: Mapping[str, Pair] = {  # key in the output → the pair
    "forgetting": Pair("standard", "replayed", "retention"),
    "forgetting-rate": Pair("standard", "low-rate", "retention"),
    "no-evaluation": Pair("long", "standard"),
    "long-run": Pair("long", "stopped"),
    "small-update": Pair("rows-2", "standard"),
    "smallest-update": Pair("rows-1", "standard"),
    "few-updates": Pair("updates-3", "standard"),
    "large-update": Pair("rows-320", "rows-16"),
    "lost-updates": Pair("bfloat16", "float32"),
    # At the edge, where a rule just speaks.
    "forgetting-edge": Pair("edge-rate", "edge-replayed", "retention"),
    "long-run-edge": Pair("epochs-6", "stopped-6"),
    "small-update-edge": Pair("rows-3", "standard"),
    "few-updates-edge": Pair("updates-9", "standard"),
}
UNPROVEN: Mapping[str, Pair] = {  # what is not worse by more than the spread, and so has no rule
    "decay-and-pull": Pair("decayed", "pulled", "retention"),
    "long-warmup": Pair("warmup-36", "standard"),
    "update-of-4": Pair("rows-4", "standard"),
}
QUICK = ("few-updates", "update-of-4")


@dataclass(frozen=True)
class Losses:
    """Of one run: of the updates that were logged last, and of its final model."""

    train: float
    eval: float
    retention: float
    rise: float
    """Of the retention rows' loss over the run."""
    fall: float
    """Of the evaluation rows' loss."""


def main() -> None:
    """Run all pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few rows")
    parser.add_argument("--seeds", type=int, default=None, help="default: 3, or 1 with --quick")
    options = parser.parse_args()
    seeds = range(1, 1 + (options.seeds or (1 if options.quick else 3)))
    pairs = {name: pair for name, pair in {**PAIRS, **UNPROVEN}.items() if name in QUICK or not options.quick}
    needed = {name for pair in pairs.values() for name in (pair.fault, pair.without)}
    runs = {name: [trained(name, seed, quick=options.quick) for seed in seeds] for name in RUNS if name in needed}
    found: dict[str, Any] = {"benchmark": "advice", "machine": report.machine(), "seeds": len(seeds)}
    found["runs"] = {name: averages(losses) for name, losses in runs.items()}
    for part, some in (("pairs", PAIRS), ("unproven", UNPROVEN)):
        found[part] = {name: compared(pair, runs, name in PAIRS) for name, pair in pairs.items() if name in some}
    report.show(found)


def recipe(seed: int, changes: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """The recipe of a run: what a dotted key of `changes` names is replaced."""
    tables: dict[str, Any] = {
        "recipe": 1,
        "run": {"seed": seed, "epochs": 3, "micro_batch": 8, "global_batch": 8},
        "model": {"source": "builtin:tiny-chat"},
        "data": {
            "cache": False,
            "train": "[:96]",
            "eval": "[700:780]",
            "retention": [{"path": str(DATA / "heldback-chat.jsonl"), "limit": 4 if quick else 60}],
            "general": [{"path": str(DATA / "known-chat.jsonl")}],
        },
        "batching": {"name": "bucketed", "max_length": 256},
        "optimizer": {"name": "adamw", "lr": 5e-4},
        "evaluation": {"samples": 0, "metrics": ["loss"]},
    }
    for key, value in changes.items():
        table, _, name = key.partition(".")
        if name:
            tables[table][name] = value
        else:
            tables[table] = {**tables.get(table, {}), **value} if isinstance(value, dict) else value
    if quick:
        tables["data"] |= {"train": "[:16]", "eval": "[700:704]"}
    for part in ("train", "eval"):
        tables["data"][part] = [{"path": str(DATA / "stdlib-qa.jsonl"), "split": tables["data"][part]}]
    return tables


def trained(name: str, seed: int, *, quick: bool) -> Losses:
    """Make one of the runs."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_recipe(recipe(seed, RUNS[name], quick=quick), Path(folder))
        if run.error:
            raise run.error
        summary, logged = run.summary, [line["loss"] for line in run.metrics if "loss" in line]
    ends = [summary[part][when] for part in ("eval", "retention") for when in ("before", "after")]
    before, after, known, left = (
        ends[0]["loss"],
        ends[1]["loss"],
        *(next(iter(end.values()))["loss"] for end in ends[2:]),
    )
    losses = Losses(train=logged[-1], eval=after, retention=left, rise=left - known, fall=before - after)
    print(f"{name}, seed {seed}: {losses}", file=sys.stderr, flush=True)
    return losses


def averages(losses: Sequence[Losses]) -> dict[str, float]:
    """Over the seeds of one run."""
    names = ("train", "eval", "retention", "rise", "fall")
    return {name: round(statistics.mean(getattr(one, name) for one in losses), 4) for name in names}


def compared(pair: Pair, runs: Mapping[str, Sequence[Losses]], promised: bool) -> dict[str, Any]:
    """Seed by seed, how much worse the run with the fault ends, beside the spread of the seeds; this is the target
    where a rule says so.
    """
    with_it, without = ([getattr(one, pair.loss) for one in runs[name]] for name in (pair.fault, pair.without))
    spread = round(max(max(losses) - min(losses) for losses in (with_it, without)), 4)
    worse = [one - other for one, other in zip(with_it, without, strict=True)]
    return {
        "on": f"{pair.loss} rows",
        "worse_by": report.figure(worse, at_least=spread if promised else None),
        "spread": spread,
    }


if __name__ == "__main__":
    main()
