"""How quickly `fttool audit` looks at 100,000 conversations, and what memory it takes.

    python tests/benchmarks/audit.py            five minutes on two cores
    python tests/benchmarks/audit.py --quick    some seconds

Conversations of one to three questions and answers, 1,000 characters on average, some of them repeated, cut into loops,
or with an e-mail address in them. The verb runs in a process of its own, with all filters that it asks by itself; its
processor time is that of all its processes, and hardly changes with what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report
from texts import Texts

SECONDS = 120
"""By the clock, for 100,000 rows on two processors that have nothing else to do."""
MEGABYTES = 2_500
"""Peak of the largest process, all imports with it, for 100,000 rows."""


def main() -> None:
    """Audit the rows, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--rows", type=int, default=None, help="default: 100,000, or 300 with --quick")
    options = parser.parse_args()
    count = options.rows or (300 if options.quick else 100_000)
    with tempfile.TemporaryDirectory() as name:
        rows = Path(name) / "rows.jsonl"
        characters = write(rows, count)
        began, before = time.perf_counter(), used()
        command = [sys.executable, "-m", "fttool", "audit", str(rows), "--json", "-q"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
        seconds, processor = time.perf_counter() - began, used() - before
    found: dict[str, Any] = {"benchmark": "audit", "machine": report.machine(), "rows": count}
    found["characters_of_a_row"] = round(characters / count)
    found["filters"] = len(json.loads(done.stdout)["suspects"])
    found["rows_per_second"] = {"clock": round(count / seconds), "processor": round(count / processor)}
    found["processor_seconds"] = round(processor, 1)
    found["seconds"] = report.figure([seconds], at_most=SECONDS)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found["megabytes"] = report.figure([peak], at_most=MEGABYTES)
    report.show(found)


def write(file: Path, count: int) -> int:
    """Conversations, in a hundred of which two are faulty; returns the number of characters."""
    made, characters, last = Texts(17), 0, list[dict[str, str]]()
    with file.open("w", encoding="utf-8") as out:
        for number in range(count):
            turns: list[dict[str, str]] = []
            for _ in range(made.draw.randint(1, 3)):
                turns.append({"role": "user", "content": f"{' '.join(made.said(8, 40))} {number}?"})
                turns.append({"role": "assistant", "content": f"{' '.join(made.said(20, 120))}."})
            faults = {0: last or turns, 1: [turns[0], {"role": "assistant", "content": turns[0]["content"] * 8}]}
            faults[2] = [*turns[:-1], {"role": "assistant", "content": f"Ask someone{number}@example.com."}]
            last = faults.get(number % 150, turns)
            characters += sum(len(turn["content"]) for turn in last)
            out.write(json.dumps({"messages": last}) + "\n")
    return characters


def used() -> float:
    """Processor seconds of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
