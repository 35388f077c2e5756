"""Peak memory of fttool and of the hand-written loop, above what their imports take: one JSON object.

    python tests/benchmarks/memory.py            three minutes on two cores
    python tests/benchmarks/memory.py --quick    half a minute, on a model so small that its figures mean nothing

Every run is a fresh process over the same batches (with --quick all share one); its peak is the resident set's high-
water mark, and what the imports took is the mark right after them. fttool's run is a whole one: it ends with a
checkpoint and the final model on disk, the hand-written loop ends with its last update. The model has 31 million
parameters, so weights, gradients, the optimizer's state and logits are ten times what fttool itself holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
from workload import Case, write_model, write_rows

OVER_HAND_WRITTEN = 1.05
"""Peak above the imports, over that of the hand-written loop."""


def main() -> None:
    """Run both on both kinds of rows, in turn, and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round")
    parser.add_argument("--rounds", type=int, default=None, help="default: 3, or 1 with --quick")
    parser.add_argument("--child", nargs=3, metavar=("WHO", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, rows, folder = options.child
        print(json.dumps(CHILDREN[who](Path(folder), rows, False)))
        return
    rounds = options.rounds or (1 if options.quick else 3)
    found: dict[str, Any] = {"benchmark": "memory", "machine": report.machine(), "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        found["parameters"] = ask("prepare", "both", folder, options.quick)
        for rows, kind in (("full", "fully_learned"), ("chat", "chat")):
            peaks = [
                ask("both", rows, folder, True)
                if options.quick
                else {who: ask(who, rows, folder, False) for who in ("fttool", "hand_written")}
                for _ in range(rounds)
            ]
            found[kind] = {
                "peak_above_imports_mb": {
                    who: report.figure([round(peak[who] / 2**20, 1) for peak in peaks]) for who in peaks[0]
                },
                "fttool_over_hand_written": report.figure(
                    [peak["fttool"] / peak["hand_written"] for peak in peaks], at_most=OVER_HAND_WRITTEN
                ),
            }
    report.show(found)


def ask(who: str, rows: str, folder: str, quick: bool) -> Any:
    """What a child prints last. This process stays small: a child's high-water mark starts at ours.

    Quick ones are none: they are called here.
    """
    if quick:
        imported()
        return CHILDREN[who](Path(folder), rows, quick)
    words = [sys.executable, __file__, "--child", who, rows, folder]
    answer = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(answer.splitlines()[-1])


# -- in a process of their own -------------------------------------------------------------------------------------


def case_of(rows: str, quick: bool) -> Case:
    return Case(rows, 4, 2 if quick else 8)


def prepare(folder: Path, _: str, quick: bool) -> int:
    """Write model, rows, and the batches that fttool will meet; returns the number of parameters."""
    from contestants import planned, prepared_run

    size = {"layers": 2, "hidden": 64, "inner": 64} if quick else {"layers": 8, "hidden": 512, "inner": 1536}
    parameters = write_model(folder / "model", **size)
    write_rows(folder, full_rows=16 if quick else 32, full_length=128, chat_rows=16 if quick else 64)
    for rows in ("full", "chat"):
        case = case_of(rows, quick)
        batches = planned(prepared_run(folder, case, f"plan-{rows}")[1], case)
        plain = [[[(row.input_ids, row.labels) for row in micro] for micro in update] for update in batches]
        (folder / f"{rows}.batches.json").write_text(json.dumps(plain), encoding="utf-8")
    return parameters


@cache
def imported() -> int:
    """The mark when all is imported that fttool and its trainer do, so that it is not counted."""
    import datasets  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    import fttool.training.trainer  # noqa: F401

    return high_water()


def fttool(folder: Path, rows: str, quick: bool) -> int:
    """A whole run; its peak."""
    from contestants import prepared_run

    imports = imported()
    go, _ = prepared_run(folder, case_of(rows, quick), f"run-{rows}-{os.getpid()}")
    go()
    return high_water() - imports


def hand_written(folder: Path, rows: str, quick: bool) -> int:
    """The plain loop over the same batches; its peak."""
    import hand_written
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401
    from workload import LR, PAD_ID, WARMUP

    imports = high_water()
    batches = json.loads((folder / f"{rows}.batches.json").read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    hand_written.train(model, batches, pad_id=PAD_ID, lr=LR, warmup=WARMUP, updated=lambda: None)
    return high_water() - imports


def both(folder: Path, rows: str, quick: bool) -> dict[str, int]:
    """Both in this process: what runs later stands on the peak of what ran before."""
    peak = fttool(folder, rows, quick)
    return {"fttool": peak, "hand_written": peak + hand_written(folder, rows, quick)}


def high_water() -> int:
    """Most memory that this process ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


CHILDREN = {"prepare": prepare, "fttool": fttool, "hand_written": hand_written, "both": both}


if __name__ == "__main__":
    main()
