"""One part of the GPU suite: a script that measures something and prints one JSON object; and runs of fttool for it.

Each part is a process of its own, so a crash in a kernel ends that part alone. Runs are what a user types, in processes
of their own too: `CUDA_VISIBLE_DEVICES=""` makes the same run on the CPU, as its twin. Where there is no GPU, all that
can be shown is that a part works: then its runs are made in the part's own process, on a few rows.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parents[2] / "recipes"

Found = dict[str, Any]
"""Figures of a part; those under `checks` are held to a bound."""


def main(measure: Callable[[Path, bool], Found], description: str | None) -> None:
    """Run a part's `measure(scratch folder, quick)` and print what it finds as one JSON object."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few updates; shows that it works")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.quick)
    print(json.dumps(found, ensure_ascii=False))


def check(what: str, value: float, at_most: float) -> Found:
    """A figure and its bound."""
    return {"what": what, "value": float(f"{value:.4g}"), "at_most": at_most, "ok": bool(value <= at_most)}


def gpu() -> bool:
    """True where torch sees a CUDA GPU."""
    import torch

    return torch.cuda.is_available()


@dataclass(frozen=True)
class Run:
    """A finished `fttool run`."""

    folder: Path

    @property
    def summary(self) -> Found:
        """Its `summary.json`."""
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    @property
    def losses(self) -> list[float]:
        """The loss of each line of its log."""
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [line["loss"] for line in map(json.loads, lines) if "loss" in line]

    def weights(self) -> dict[str, Any]:
        """The tensors of its saved model."""
        from safetensors.torch import load_file

        return load_file(self.folder / "model" / "model.safetensors")


class RunError(Exception):
    """A run ended with another exit code than 0; says which, and its last words."""


def run(output: Path, name: str, recipe: str, *settings: str, cpu: bool = False, resume: bool = False) -> Run:
    """`fttool run` of one of the recipes with `--set` for each of the settings; raises `RunError`."""
    words = ["run", str(RECIPES / recipe), "--quiet", *(["--resume"] if resume else [])]
    few = () if gpu() else ("data.train.0.limit=48",)
    for setting in (f"run.output={json.dumps(str(output))}", f"run.name={name}", "run.log_every=1", *few, *settings):
        words += ["--set", setting]
    code, said = _apart(words, cpu) if gpu() else _here(words)
    if code:
        raise RunError(f"exit {code}: {said.strip()[-600:]}")
    return Run(output / name)


def _apart(words: Sequence[str], cpu: bool) -> tuple[int, str]:
    """Exit code and stderr of fttool in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})}
    done = subprocess.run([sys.executable, "-m", "fttool", *words], capture_output=True, text=True, env=environment)
    return done.returncode, done.stderr


def _here(words: Sequence[str]) -> tuple[int, str]:
    """The same in this process."""
    from fttool.cli import main

    with redirect_stderr(io.StringIO()) as said:
        return main(words), said.getvalue()


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """What each job returns; they run at once, so twins on the CPU take no time of their own."""
    if not gpu():  # a run in this process listens to signals, which only its first thread may
        return [job() for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def largest_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest relative difference of two loss curves; raises `ValueError` where one is longer or empty."""
    if not ours:
        raise ValueError("a loss curve without a value")
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
