"""Memory per GPU under each sharding, by the formulas of ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054).

With N processes, weights in float32 and bf16 computation, bytes per parameter are 18 under DDP, 6 + 12/N under ZeRO-1,
2 + 16/N under ZeRO-2 and 18/N under ZeRO-3 and FSDP, where a layer or two is gathered on top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fttool.api import Memory

USABLE = 0.9
"""Of a device's memory: the rest is the libraries' own, and what an allocator cannot use."""
MOST_GPUS = 1024
ADAPTERS = 0.03
"""Share of the gradients and of the optimizer's state that adapters have, at most: those of rank 16 on all layers of a
7B Llama are 0.6% of its weights."""

Needed = Callable[["Memory", int], float]


def _state(held: Memory) -> float:
    return float(held.weights + held.gradients + held.optimizer)


def _always(held: Memory) -> float:
    return float(held.activations + held.regularizers)


SHARDINGS: Mapping[str, Needed] = {
    "none": lambda held, n: held.total,
    "ddp": lambda held, n: held.total + held.gradients,
    "zero-1": lambda held, n: held.gathered + held.gradients + (held.weights + held.optimizer) / n + _always(held),
    "zero-2": lambda held, n: held.gathered + _state(held) / n + _always(held),
    "fsdp-2": lambda held, n: held.gathered + _state(held) / n + _always(held),
    "zero-3": lambda held, n: 2 * held.unit + _state(held) / n + _always(held),
    "fsdp-3": lambda held, n: 2 * held.unit + _state(held) / n + _always(held),
}
"""Bytes of a process by what it would hold unsharded and the number of processes, from the fastest on; the names are
those of `fttool probe`."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A sharding on some GPUs."""

    sharding: str
    needed: float
    """Bytes of each GPU."""
    fits: bool


def fits(held: Memory, gpus: int, there: float) -> list[Fit]:
    """Every sharding that so many GPUs can have, each with `there` bytes."""
    names = ["none"] if gpus == 1 else [name for name in SHARDINGS if name != "none"]
    return [Fit(name, needed := SHARDINGS[name](held, gpus), needed <= USABLE * there) for name in names]


def gpus_needed(held: Memory, there: float) -> int | None:
    """The fewest GPUs, a power of two, on which FSDP fits; None where no number helps."""
    number = 1
    while number <= MOST_GPUS:
        if SHARDINGS["fsdp-3" if number > 1 else "none"](held, number) <= USABLE * there:
            return number
        number *= 2
    return None


def remedies(held: Callable[..., Memory], gpus: int, there: float) -> list[str]:
    """What would make a run fit that does not: recomputed activations, then one row at a time, then more GPUs.

    `held` takes `recomputed` and `micro_batch`, each None for the recipe's own.
    """
    tries: list[tuple[str, Memory]] = [
        ("model.gradient_checkpointing = true", held(recomputed=True, micro_batch=None)),
        ("run.micro_batch = 1", held(recomputed=None, micro_batch=1)),
        ("both: model.gradient_checkpointing = true, run.micro_batch = 1", held(recomputed=True, micro_batch=1)),
    ]
    found = next((what for what, memory in tries if any(fit.fits for fit in fits(memory, gpus, there))), None)
    if found is not None:
        return [found]
    smallest = tries[-1][1]
    more = gpus_needed(smallest, there)
    ways = [f"{more} GPUs under fsdp, with gradient checkpointing and micro-batches of 1"] if more else []
    trained = {"gradients": round(smallest.gradients * ADAPTERS), "optimizer": round(smallest.optimizer * ADAPTERS)}
    if any(fit.fits for fit in fits(replace(smallest, **trained), gpus, there)):
        ways.append('freezing = "lora", with gradient checkpointing and micro-batches of 1')
    return ways
