"""What a test sees of a run from outside: its processes, how far it is, and whether it ended like another one."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

dist = [pytest.mark.dist, pytest.mark.full]


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the run, by rank."""
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        ranks = [word for word in environment if word.startswith(b"RANK=")]
        if parent == process.pid and ranks:
            found[int(ranks[0].removeprefix(b"RANK="))] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def updates(tmp_path: Path) -> int:
    """How many have been logged."""
    file = tmp_path / "runs" / "r" / "metrics.jsonl"
    return sum('"loss"' in line for line in file.read_text().splitlines()) if file.exists() else 0


def alive(processes: list[int]) -> list[int]:
    """Those of them that still run; a zombie does not."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in processes}
    return [
        pid for pid, file in states.items() if file.exists() and file.read_text().rpartition(")")[2].split()[0] != "Z"
    ]


def timeless(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def assert_same(run: Path, other: Path) -> None:
    """The same model, bit for bit, and the same measurements."""
    expected, found = (load_file(one / "model" / "model.safetensors") for one in (other, run))
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert timeless(run / "metrics.jsonl") == timeless(other / "metrics.jsonl")
