"""A random Llama of 1 billion parameters at 4,096 tokens: tokens/s, share of the peak, and memory, beside others.

fttool, trl's SFTTrainer and the hand-written loop of the benchmarks train in turns, twice each, on the same fully
learned rows in bf16 over float32 weights, with a vocabulary of 32,768 and one of 131,072. Memory is what CUDA's
allocator held at its peak.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import torch
import workload
from contestants import IN_ORDER, Timed, by_hand, by_trl, planned, prepared_run
from part import Found, check, gpu, main
from workload import Case

NOMINAL = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12}
"""Operations per second in dense bf16 matrix products, by a word in the device's name; from NVIDIA's data sheets."""


def measure(folder: Path, quick: bool) -> Found:
    """Figures for each vocabulary."""
    found: Found = {"device": torch.cuda.get_device_name() if gpu() else "cpu", "peak": peak(quick)}
    checks: list[Found] = []
    for vocabulary in (512, 1024) if quick else (32_768, 131_072):
        one = found[f"vocabulary_{vocabulary}"] = contest(folder / str(vocabulary), vocabulary, found["peak"], quick)
        if gpu():
            hand = one["hand_written"]["seconds_per_update"]
            what = f"vocabulary {vocabulary}: time of an update over the hand-written loop's"
            checks.append(check(what, one["fttool"]["seconds_per_update"] / hand, 1.1))
            what = f"vocabulary {vocabulary}: peak memory over the estimate"
            checks.append(check(what, one["fttool"]["peak_memory"] / one["estimated_memory"], 1.15))
    return {**found, "checks": checks}


def peak(quick: bool) -> Found:
    """Operations per second that a product of large bf16 matrices reaches here, and the data sheet's figure."""
    size = 256 if quick else 8192
    on = "cuda" if gpu() else "cpu"
    a, b = (torch.randn(size, size, device=on, dtype=torch.bfloat16) for _ in range(2))
    times = [_seconds(lambda: a @ b) for _ in range(3 if quick else 20)]
    name = torch.cuda.get_device_name() if gpu() else ""
    nominal = next((value for word, value in NOMINAL.items() if word in name), None)
    return {"measured": 2 * size**3 / min(times), "nominal": nominal}


def _seconds(work: Callable[[], Any]) -> float:
    timed = Timed()
    timed.tick()
    work()
    timed.tick()
    return timed.ends[1][0] - timed.ends[0][0]


def contest(folder: Path, vocabulary: int, peak: Found, quick: bool) -> Found:
    """The three in turns, over the same batches."""
    length, updates, layers, hidden, inner = (64, 4, 2, 64, 128) if quick else (4096, 8, 20, 2048, 5632)
    micro_batch = 2
    sizes = {"layers": layers, "hidden": hidden, "inner": inner, "vocabulary": vocabulary}
    parameters = workload.write_model(folder / "model", **sizes, max_position_embeddings=length)
    workload.write_rows(folder, full_rows=micro_batch * updates, full_length=length, chat_rows=1)
    case = Case("full", updates, micro_batch, precision="bf16", max_length=length)
    estimated = 0

    def fttool() -> Timed:
        nonlocal estimated
        go, prepared = prepared_run(folder, case, f"run-{len(turns['fttool'])}", log_every=1)
        prepared.trainer.job.output.saves = False
        estimated = prepared.memory().total
        return go()

    batches = planned(prepared_run(folder, case, "plan")[1], case)
    rows = [row for micro_batches in batches for rows in micro_batches for row in rows]
    like_fttool = {**IN_ORDER, "bf16": True, "use_cpu": not gpu(), "logging_steps": 1}
    contestants: dict[str, Callable[[], Timed]] = {
        "fttool": fttool,
        "trl": lambda: by_trl(folder, rows, case, **like_fttool),
        "hand_written": lambda: by_hand(folder / "model", batches, device="cuda" if gpu() else "cpu", autocast=True),
    }
    turns: dict[str, list[Found]] = {name: [] for name in contestants}
    for _ in range(1 if quick else 2):
        for name, contestant in contestants.items():
            turns[name].append(_turn(contestant))
    operations = operations_per_token(parameters, layers, hidden, length)
    found: Found = {"parameters": parameters, "tokens_per_update": micro_batch * length, "estimated_memory": estimated}
    for name, some in turns.items():
        seconds = statistics.median(one["seconds"] for one in some) / (updates - workload.LEFT_OUT)
        speed = micro_batch * length / seconds
        found[name] = {
            "seconds_per_update": seconds,
            "tokens_per_second": speed,
            "share_of_measured_peak": speed * operations / peak["measured"],
            "mfu": speed * operations / peak["nominal"] if peak["nominal"] else None,
            "peak_memory": max(one["peak_memory"] for one in some),
            "last_loss": some[-1]["last_loss"],
        }
    return found


def _turn(contestant: Callable[[], Timed]) -> Found:
    gc.collect()
    if gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    timed = contestant()
    memory = torch.cuda.max_memory_allocated() if gpu() else 0
    return {"seconds": timed.seconds, "peak_memory": memory, "last_loss": timed.losses[-1]}


def operations_per_token(parameters: int, layers: int, hidden: int, length: int) -> float:
    """6 per weight in a matrix product, forward and back, and those of causal attention: 6·layers·hidden·length.

    Embedding and head are one matrix here, which counts once, as the head.
    """
    return 6 * parameters + 6 * layers * hidden * length


if __name__ == "__main__":
    main(measure, __doc__)
