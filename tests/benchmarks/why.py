"""Does `fttool why` name planted rows? Three among 800, at random places, for twenty seeds. One JSON object.

    python tests/benchmarks/why.py            a quarter of an hour on two cores
    python tests/benchmarks/why.py --quick    one seed, 96 rows

Rows are the quickstart's. Of three of them the answer is spoiled as files are in practice: random characters, base64,
and UTF-16 read as Latin-1. The model learns from all of them once, in updates of eight rows, with a checkpoint every
ten updates; then the verb is asked without being told an update.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import string
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report

from fttool.cli import main as fttool
from fttool.testing import run_recipe

ROWS = Path(__file__).parents[2] / "recipes" / "data" / "stdlib-qa.jsonl"
TOP = 5
"""Rows that the verb shows."""
SEEDS, MANY = 20, 800
LETTERS = string.ascii_letters + string.digits
SPOILS: tuple[Callable[[str, random.Random], str], ...] = (
    lambda answer, rng: "".join(rng.choice(LETTERS) for _ in answer),
    lambda answer, rng: base64.b64encode(answer.encode()).decode(),
    lambda answer, rng: answer.encode("utf-16").decode("latin-1"),
)


def planted(folder: Path, seed: int, rows: int) -> set[int]:
    """Write `rows.jsonl`; returns the lines of the spoiled rows."""
    rng = random.Random(seed)
    chosen = rng.sample([json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()], rows)
    places = rng.sample(range(rows), len(SPOILS))
    for place, spoil in zip(places, SPOILS, strict=True):
        turn = chosen[place]["messages"][1]
        turn["content"] = spoil(turn["content"], rng)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return {place + 1 for place in places}


def named(folder: Path, seed: int) -> list[int]:
    """Learn from the rows, and ask; returns the lines of the rows that stand out, each once, the worst first."""
    recipe: dict[str, Any] = {
        "recipe": 1,
        "run": {"seed": seed, "epochs": 1, "micro_batch": 8, "log_every": 1},
        "model": {"source": "builtin:tiny-chat"},
        "data": {"train": [{"path": "rows.jsonl", "format": "messages"}]},
        "batching": {"name": "bucketed", "max_length": 256},
        "optimizer": {"name": "adamw", "lr": 5e-4},
        "checkpoints": {"every": 10, "keep": 99},
    }
    run = run_recipe(recipe, folder)
    assert run.error is None, run.error
    with redirect_stdout(io.StringIO()) as said:
        assert fttool(["why", str(run.run_dir), "--json"]) == 0
    lines = [int(row["row"].rpartition(":")[2]) for row in json.loads(said.getvalue())["rows"]]
    return list(dict.fromkeys(lines))


def main() -> None:
    """Print how many of the planted rows are among the first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows, seeds = (96, 1) if quick else (MANY, SEEDS)
    ranks: dict[int, list[int]] = {}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            bad = planted(Path(name), seed, rows)
            found = named(Path(name), seed)
        ranks[seed] = sorted(found.index(line) + 1 if line in found else rows for line in bad)
        print(f"seed {seed}: the planted rows stand at {ranks[seed]}", file=sys.stderr, flush=True)
    whole = sum(max(places) <= TOP for places in ranks.values())
    report.show(
        {
            "benchmark": "why",
            "machine": report.machine(),
            "rows": rows,
            "seeds": seeds,
            "all_in_the_top_five": whole,
            "ranks": ranks,
            "share_in_the_top_five": report.figure([whole / seeds], at_least=1.0),
        }
    )


if __name__ == "__main__":
    main()
