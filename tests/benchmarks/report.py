"""What every benchmark prints beside its figures: the machine, and each figure with its target."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fttool.machine import stay_local

stay_local()  # what libraries print would stand before the figures

PACKAGES = ("fttool", "torch", "transformers", "trl", "accelerate")


def machine() -> dict[str, Any]:
    """Cores, threads, versions, and how busy the machine was before the benchmark began."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "torch's default"),
        "load_average_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def figure(values: Sequence[float], *, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """The median of one value per round, its extremes, and whether it reaches the target."""
    median = statistics.median(values)
    reached = median >= at_least if at_least is not None else median <= at_most if at_most is not None else None
    target = f"≥ {at_least}" if at_least is not None else f"≤ {at_most}"
    shown = {"median": median, "lowest": min(values), "highest": max(values)}
    rounded: dict[str, Any] = {name: float(f"{value:.4g}") for name, value in shown.items()}
    return rounded if reached is None else {**rounded, "target": target, "reached": reached}


def show(found: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(found, indent=2, ensure_ascii=False))
