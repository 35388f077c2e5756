"""How long the verbs take that load no model, against bare Python and against the imports that they cannot do without.

    python tests/benchmarks/start_up.py            half a minute
    python tests/benchmarks/start_up.py --quick    a few seconds

Every verb is a fresh process, in turn with the bare ones. The first round is not counted: it reads files from disk and
writes `.pyc` files, into a folder of the benchmark's own, so that a setting that forbids them slows nothing down.
Processor time stands beside the clock's: it hardly changes with what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report

TARGETS = {"--help": 0.15, "validate": 0.6, "plugins": 0.6, "schema": 1.0}
"""Seconds over bare python."""

RATIOS = {"--help": 0.8, "validate": 2.0, "plugins": 2.0, "schema": 3.0}
"""Processor time in units of `LIBRARIES`."""

LIBRARIES = """\
import pluggy, pydantic, rich.console, tomli
from importlib.metadata import entry_points
entry_points(group="fttool.v1")
class Options(pydantic.BaseModel):  # `import pydantic` alone imports next to nothing
    lr: pydantic.PositiveFloat = 1.0
"""
"""What any program of these libraries does before its first line of its own."""

RECIPE = """\
recipe = 1

[model]
source = "builtin:tiny-chat"

[[data.train]]
path = "rows.jsonl"

[batching]
name = "bucketed"
max_length = 256

[optimizer]
name = "adamw"
lr = 1e-4

[schedule]
name = "wsd"

[[regularizers]]
name = "l2-init"
strength = 0.01
"""


def main() -> None:
    """Time all verbs and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--rounds", type=int, default=None, help="default: 15, or 2 with --quick")
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 15)
    found: dict[str, Any] = {"benchmark": "start_up", "machine": report.machine(), "rounds": rounds}
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "recipe.toml"
        recipe.write_text(RECIPE, encoding="utf-8")
        row = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}
        recipe.with_name("rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        fttool = [sys.executable, "-m", "fttool"]
        commands = {
            "bare": [sys.executable, "-c", "pass"],
            "libraries": [sys.executable, "-c", LIBRARIES],
            "--help": [*fttool, "--help"],
            "validate": [*fttool, "validate", str(recipe)],
            "plugins": [*fttool, "plugins"],
            "schema": [*fttool, "schema"],
        }
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(Path(name) / "pyc")
        taken = [
            {verb: seconds(command, environment) for verb, command in commands.items()} for _ in range(rounds + 1)
        ][1:]
    clock = {verb: [one[verb][0] for one in taken] for verb in commands}
    processor = {verb: [one[verb][1] for one in taken] for verb in commands}
    found["bare_python_seconds"] = round(statistics.median(clock["bare"]), 3)
    found["seconds_over_bare_python"] = {
        verb: {
            "clock": over(clock[verb], clock["bare"], most),
            "processor": over(processor[verb], processor["bare"], most),
        }
        for verb, most in TARGETS.items()
    }
    found["processor_time_over_libraries"] = {
        verb: report.figure(
            [one / two for one, two in zip(processor[verb], processor["libraries"], strict=True)], at_most=most
        )
        for verb, most in RATIOS.items()
    }
    report.show(found)


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Of one process: on the clock, and of processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def over(verb: list[float], bare: list[float], most: float) -> dict[str, Any]:
    """The verb's seconds over those of bare python in the same round."""
    return report.figure([one - two for one, two in zip(verb, bare, strict=True)], at_most=most)


if __name__ == "__main__":
    main()
