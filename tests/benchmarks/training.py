"""fttool against trl's SFTTrainer and a hand-written PyTorch loop: one JSON object of medians, ratios and targets.

    python tests/benchmarks/training.py            about ten minutes on two cores
    python tests/benchmarks/training.py --quick    half a minute; shows that it works, its figures mean nothing

All three train the same model from the same weights, on the same rows with the same micro-batch, seed and number
format (float32), in one process. Where slots per second are compared, they meet the same batches in the same order.
A round runs each of them once; the order rotates, and ratios are taken within a round, so that what else the machine
does falls on all alike. Ratios of processor time stand beside those of the clock: they agree on a machine that is
idle, and on a busy one they are the ones to trust, with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import report
import workload
from contestants import FULL_PRECISION, IN_ORDER, Timed, by_hand, by_trl, planned, prepared_run
from workload import Case

SLOTS_OF_HAND_WRITTEN = 0.95
"""Padded slots a second over the hand-written loop's, every token learned."""
SLOTS_OF_HAND_WRITTEN_CHAT = 1.1
"""The same on chat rows, where only the answers are learned."""
TOKENS_OF_TRL = 2.0
"""Real tokens a second over trl's, rows of mixed length, each with its own batching."""
CURVE = 1e-5
"""Relative difference of losses on identical batches."""
L2_INIT = 1.06
"""Time of an update with `l2-init` over that without, at 1,000 tokens or more."""

L2: tuple[dict[str, Any], ...] = ({"name": "l2-init", "strength": 0.01},)


def main() -> None:
    """Run all comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round of few updates")
    parser.add_argument("--rounds", type=int, default=None, help="default: 7, or 1 with --quick")
    options = parser.parse_args()
    rounds, quick = options.rounds or (1 if options.quick else 7), options.quick
    found: dict[str, Any] = {"benchmark": "training", "machine": report.machine(), "rounds": rounds, "quick": quick}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if quick:
            parameters = workload.write_model(folder / "model", layers=2, hidden=64, inner=64)
            workload.write_rows(folder, full_rows=16, full_length=32, chat_rows=16)
            cases = Case("full", 4, 2), Case("chat", 4, 2), Case("chat", 3, 2, accumulation=2)
        else:
            parameters = workload.write_model(folder / "model")
            workload.write_rows(folder, full_rows=96, full_length=128, chat_rows=160)
            cases = Case("full", 12, 8), Case("chat", 20, 8), Case("chat", 12, 4, accumulation=2)
        found["model"] = {"parameters": parameters, "vocabulary": workload.VOCABULARY}
        full, chat, curve = cases
        found |= fully_learned(folder, full, rounds)
        found |= chat_rows(folder, chat, rounds)
        found |= same_curve(folder, curve)
        found |= l2_init(folder, full, rounds)
    report.show(found)


# -- the comparisons -----------------------------------------------------------------------------------------------


def fully_learned(folder: Path, case: Case, rounds: int) -> dict[str, Any]:
    """Slots a second where every token is learned and no slot is padding: nothing can be saved, only lost."""
    runs = rotated(rounds, lambda number: on_the_same_batches(folder, case, f"full-{number}"))
    return {
        "fully_learned": {
            "slots_per_update": runs["fttool"][0].slots[0],
            "slots_per_second": {name: speed(timed, "slots") for name, timed in runs.items()},
            "fttool_over_hand_written": ratios(runs, "fttool", "hand_written", "slots", SLOTS_OF_HAND_WRITTEN),
            "trl_over_hand_written": ratios(runs, "trl", "hand_written", "slots"),
        }
    }


def chat_rows(folder: Path, case: Case, rounds: int) -> dict[str, Any]:
    """Slots a second on identical batches of chat rows, and real tokens a second with everyone's own batching."""

    def contestants(number: int) -> Mapping[str, Callable[[], Timed]]:
        named = on_the_same_batches(folder, case, f"chat-{number}")
        _, prepared = prepared_run(folder, case, f"chat-rows-{number}")
        rows = prepared.rows.train
        found["learned_share_of_tokens"] = round(rows.label_tokens / len(rows.tokens), 3)
        found["mean_length"] = round(statistics.mean(rows.lengths), 1)
        found["longest"] = max(rows.lengths)
        return {**named, "trl_own_batches": lambda: by_trl(folder, rows, case, **FULL_PRECISION)}

    found: dict[str, Any] = {}
    runs = rotated(rounds, contestants)
    first = {name: timed[0] for name, timed in runs.items()}
    return {
        "chat": {
            **found,
            "real_share_of_slots": {
                name: round(sum(first[name].tokens) / sum(first[name].slots), 3)
                for name in ("fttool", "trl_own_batches")
            },
            "slots_per_second": {name: speed(timed, "slots") for name, timed in runs.items()},
            "tokens_per_second": {name: speed(runs[name], "tokens") for name in ("fttool", "trl_own_batches")},
            "fttool_over_hand_written": ratios(runs, "fttool", "hand_written", "slots", SLOTS_OF_HAND_WRITTEN_CHAT),
            "trl_over_hand_written": ratios(runs, "trl", "hand_written", "slots"),
            "fttool_over_trl_own_batches": ratios(runs, "fttool", "trl_own_batches", "tokens", TOKENS_OF_TRL),
        }
    }


def same_curve(folder: Path, case: Case) -> dict[str, Any]:
    """The losses of all three on identical batches, accumulated; they must be doing the same thing."""
    go, prepared = prepared_run(folder, case, "curve", log_every=1)
    batches = planned(prepared, case)
    rows = [row for micro_batches in batches for rows in micro_batches for row in rows]
    ours = go().losses
    theirs = {
        "trl": by_trl(folder, rows, case, logging_steps=1, **IN_ORDER).losses,
        "hand_written": by_hand(folder / case.model, batches).losses,
    }
    return {
        "same_curve": {
            "updates": len(ours),
            "first_loss": ours[0],
            "last_loss": ours[-1],
            **{
                f"largest_relative_difference_to_{name}": report.figure([difference(ours, losses)], at_most=CURVE)
                for name, losses in theirs.items()
            },
        }
    }


def l2_init(folder: Path, case: Case, rounds: int) -> dict[str, Any]:
    """What `l2-init` adds to the time of an update."""
    pulled = Case(case.rows, case.updates, case.micro_batch, regularizers=L2)
    runs = rotated(
        rounds,
        lambda number: {
            "without": prepared_run(folder, case, f"without-{number}")[0],
            "with": prepared_run(folder, pulled, f"with-{number}")[0],
        },
    )
    pairs = list(zip(runs["with"], runs["without"], strict=True))
    return {
        "l2_init": {
            "tokens_per_update": runs["with"][0].tokens[0],
            "with_over_without": {
                "clock": report.figure([one.seconds / two.seconds for one, two in pairs], at_most=L2_INIT),
                "processor": report.figure(
                    [one.processor_seconds / two.processor_seconds for one, two in pairs], at_most=L2_INIT
                ),
            },
        }
    }


# -- rounds and ratios ---------------------------------------------------------------------------------------------


def on_the_same_batches(folder: Path, case: Case, name: str) -> Mapping[str, Callable[[], Timed]]:
    """The three, over the batches that fttool plans."""
    go, prepared = prepared_run(folder, case, name)
    batches = planned(prepared, case)
    rows = [row for micro_batches in batches for rows in micro_batches for row in rows]
    return {
        "fttool": go,
        "hand_written": lambda: by_hand(folder / case.model, batches),
        "trl": lambda: by_trl(folder, rows, case, **IN_ORDER),
    }


def rotated(rounds: int, contestants: Callable[[int], Mapping[str, Callable[[], Timed]]]) -> dict[str, list[Timed]]:
    """Run each contestant once a round, another one first each time."""
    runs: dict[str, list[Timed]] = {}
    for number in range(rounds):
        named = contestants(number)
        first = number % len(named)
        for name in [*named, *named][first : first + len(named)]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            runs.setdefault(name, []).append(named[name]())
    return runs


def speed(runs: list[Timed], what: str) -> float:
    """Median over the rounds, on the clock."""
    return round(statistics.median(getattr(timed, f"counted_{what}") / timed.seconds for timed in runs), 1)


def ratios(runs: dict[str, list[Timed]], one: str, two: str, what: str, target: float | None = None) -> dict[str, Any]:
    """Speed of `one` over that of `two` within each round, by the clock and by processor time."""
    pairs = list(zip(runs[one], runs[two], strict=True))
    found: dict[str, Any] = {}
    for clock, seconds in (("clock", "seconds"), ("processor", "processor_seconds")):
        speeds = [[getattr(timed, f"counted_{what}") / getattr(timed, seconds) for timed in pair] for pair in pairs]
        found[clock] = report.figure([ours / theirs for ours, theirs in speeds], at_least=target)
    return found


def difference(ours: list[float], theirs: list[float]) -> float:
    """The largest relative difference of two curves."""
    return max(abs(one - two) / abs(two) for one, two in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
