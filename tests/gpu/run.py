"""The first words of a GPU: one table and one JSON object of what fttool does on this machine's CUDA GPU.

    make gpu                              within eight minutes on an H100 or H200; no network
    python tests/gpu/run.py --quick       a minute or two; shows that the parts work, on a machine without a GPU too
    python tests/gpu/run.py --part pulls  one part

A part that fails says how, and the others go on. The exit code is 1 where a part failed or a figure is beyond its
bound, 2 where something is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PARTS = {"formats": 150, "proof": 100, "pulls": 120, "resume": 100, "throughput": 240}
"""Each part, and the seconds after which it is ended."""
NEEDED = {"torch": (2, 11), "transformers": (5, 17), "trl": (1, 16), "accelerate": (1, 15), "datasets": (5,)}
"""What is known to suffice here; fttool's own requirements may ask for newer versions."""


def main() -> int:
    """Run the parts one after the other, print the table to stderr and the JSON object to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few updates, small models; a CPU will do")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this part; can be repeated")
    options = parser.parse_args()
    lacking = missing() if options.quick else [*missing(), *missing_gpu()]
    if lacking:
        print("This machine cannot run it:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 2
    found: dict[str, Any] = {"suite": "gpu", "quick": options.quick, "machine": machine(), "parts": {}}
    for name in options.part or PARTS:
        print(f"{name} …", file=sys.stderr, flush=True)
        found["parts"][name] = run_part(name, options.quick)
    print(table(found["parts"]), file=sys.stderr)
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0 if all(held(part) for part in found["parts"].values()) else 1


def missing() -> list[str]:
    """Packages that are not there or too old, each with what to do."""
    lacking: list[str] = []
    for name, least in NEEDED.items():
        wanted = ".".join(map(str, least))
        try:
            there = version(name)
        except PackageNotFoundError:
            lacking.append(f"{name} is not installed; it takes {wanted} or newer")
            continue
        if tuple(int(part) for part in there.split("+")[0].split(".")[: len(least)] if part.isdigit()) < least:
            lacking.append(f"{name} is {there}; it takes {wanted} or newer")
    if not entry_points(group="fttool.v1"):
        lacking.append("fttool is not installed; without a network, pip install --no-deps of its wheel does it")
    return lacking


def missing_gpu() -> list[str]:
    """A line where torch sees no CUDA GPU."""
    import torch

    return [] if torch.cuda.is_available() else ["torch sees no CUDA GPU; --quick runs on a CPU"]


def machine() -> dict[str, Any]:
    """The GPU, driver and packages."""
    import torch

    there = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if there else None,
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory if there else None,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in ("fttool", *NEEDED)},
    }


def run_part(name: str, quick: bool) -> dict[str, Any]:
    """What a part found; `failed` says why there is nothing."""
    began = time.perf_counter()
    words = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else [])]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        limit = None if quick else PARTS[name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, env=environment)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            found: dict[str, Any] = {"failed": f"exit {done.returncode}: {done.stderr.strip()[-1500:]}"}
        else:
            found = json.loads(lines[-1])
    except subprocess.TimeoutExpired:
        found = {"failed": f"not done after {PARTS[name]} s"}
    return {**found, "seconds": round(time.perf_counter() - began, 1)}


def failures(part: Any) -> list[str]:
    """Why a part, or pieces of it, have no figures."""
    if not isinstance(part, dict):
        return []
    own = [str(part["failed"])] if "failed" in part else []
    return [*own, *(words for value in part.values() for words in failures(value))]


def held(part: dict[str, Any]) -> bool:
    """True where nothing failed and every figure keeps its bound."""
    return not failures(part) and all(one["ok"] for one in part.get("checks", []))


def table(parts: dict[str, Any]) -> str:
    """Every figure with its bound, and what failed."""
    lines: list[str] = []
    for name, part in parts.items():
        lines.append(f"\n{name} ({part['seconds']} s)")
        for one in part.get("checks", []):
            verdict = "ok  " if one["ok"] else "MISS"
            lines.append(f"  {verdict} {one['what']}: {one['value']} (at most {one['at_most']})")
        lines += [f"  FAILED {words.splitlines()[-1] if words else ''}" for words in failures(part)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
