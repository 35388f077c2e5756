"""One candidate measured: a run in processes of its own, so that one without memory costs nothing but itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from fttool.api import ExitCode, UsageError
from fttool.verbs import Loaded
from fttool_plugins.verbs.probe.candidates import Candidate

WARM_UP = 1
"""Updates before those that count: in them memory is allocated, and kernels are chosen."""
GRACE = 10
"""Seconds that a run has to stop by itself; then it is killed."""

JOINED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Environment by which a run would join the processes of another launcher."""

Status = Literal["measured", "out of memory", "refused", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a candidate."""

    candidate: Candidate
    status: Status = "measured"
    exit_code: int = ExitCode.OK
    reason: str = ""
    """Why it was not measured, in one line."""
    speeds: Sequence[float] = ()
    """Tokens per second of each update after the warm-up, of all processes together, padding not counted."""
    peaks: Sequence[int] = ()
    """Most memory that each process had, in bytes."""
    on_gpu: bool = False
    """The memory is that of a GPU, else what was resident."""

    @property
    def tokens_per_second(self) -> float:
        """The median of the updates."""
        return median(self.speeds)

    @property
    def peak_memory_bytes(self) -> int:
        """Of the process that had most."""
        return max(self.peaks)


def environment(folder: Path) -> dict[str, str]:
    """That of the runs, which start their processes themselves and leave their own files in `folder`.

    Raises `UsageError` where a launcher has started this process as one of several.
    """
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if os.environ.get(name, "1") != "1":
            hint = "start it once, without a launcher: it starts the processes that it measures"
            raise UsageError(f"{name} is {os.environ[name]}: another launcher has started several of these", hint=hint)
    inherited = {name: value for name, value in os.environ.items() if name not in JOINED}
    return {**inherited, "TMPDIR": str(folder)}


def measure(candidate: Candidate, folder: Path, environment: Mapping[str, str]) -> Outcome:
    """Run it, and read what it has recorded."""
    if candidate.loaded is None:
        return Outcome(candidate=candidate, status="refused", exit_code=ExitCode.RECIPE, reason=candidate.refusal)
    code, said = _ended(command(candidate.loaded), environment)
    if code == ExitCode.OUT_OF_MEMORY:
        return Outcome(candidate=candidate, status="out of memory", exit_code=code, reason="out of memory")
    if code != ExitCode.OK:
        code = code if code > 0 else ExitCode.FAILURE
        return Outcome(candidate=candidate, status="failed", exit_code=code, reason=gist(said))
    run = folder / candidate.loaded.name
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    summary, lock = (json.loads((run / name).read_text(encoding="utf-8")) for name in ("summary.json", "lock.json"))
    return Outcome(
        candidate=candidate,
        speeds=[line["tokens_per_second"] for line in lines if "loss" in line and line["step"] > WARM_UP],
        peaks=[rank["peak_memory_bytes"] for rank in summary["sharding"]["ranks"]],
        on_gpu=bool(lock["hardware"]["gpus"]),
    )


def command(loaded: Loaded) -> list[str]:
    """The words of the run; nothing of it is read by a shell."""
    overrides = [word for override in loaded.overrides for word in ("--set", override)]
    return [sys.executable, "-m", "fttool", "run", str(loaded.path.absolute()), "--quiet", "--no-save", *overrides]


def gist(said: str) -> str:
    """The message in what a run has said on stderr: the last line that is not indented below another one."""
    heads = [line for line in said.splitlines() if line.strip() and not line[0].isspace()]
    return heads[-1].removeprefix("fttool failed: ") if heads else "it ended without output"


def _ended(words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and stderr of a command; whatever ends the waiting ends the command, with all that it has started."""
    quiet: Any = subprocess.DEVNULL
    with subprocess.Popen(
        words, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as process:
        try:
            _, said = process.communicate()
        except BaseException:
            _stop(process)
            raise
    text = said.decode("utf-8", errors="replace")
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        text += f"\nkilled by {name}: the system does this where memory runs out"
    return process.returncode, text


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, as it knows its own processes; then end its group."""
    try:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
