"""Several processes: started by torch's elastic launcher, or joined where another launcher has started them.

The launcher is `fttool run` itself. It starts the same command once per process, tells each its rank through the
environment, and speaks for all of them at the end: of all that went wrong, it shows what went wrong first. The process
of rank 0 shows the run; the output of the others is kept in `logs/` in the run directory.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode, FttoolError, UsageError, gist
from fttool.recipe.reading import Loaded
from fttool.runs.record import Record
from fttool.training.world import REPORTS

GRACE = 5
"""Seconds that the others have to leave once one has failed; then they are killed."""

LOST_TOUCH = ("DistBackendError", "DistNetworkError", "DistStoreError")
LOST_TOUCH_WORDS = ("closed by peer", "reset by peer", "gloo", "nccl", "timed out waiting")
"""What a process says of the others, not of itself."""


def must_launch(loaded: Loaded) -> bool:
    """True where this process has to start those that the recipe asks for; false in a process of a run.

    Raises `UsageError` where another launcher has started another number of them.
    """
    wanted = loaded.recipe.sharding.world_size
    _join_slurm(os.environ, wanted)
    started = os.environ.get("WORLD_SIZE")
    if started is None:
        return wanted > 1
    if started != str(wanted):
        sharding = loaded.recipe.sharding.id()
        message = f"the launcher has started {started} processes, and sharding '{sharding}' is for {wanted}"
        hint = f"let it start {wanted}, or take a [sharding] for {started}: docs/scale.md"
        raise UsageError(message, hint=hint, where=loaded.where(("sharding",)))
    return False


def launch(words: Sequence[str], loaded: Loaded, *, resume: bool) -> int:
    """Run `fttool WORDS` in as many processes as the recipe asks for, and say what failed; returns the exit code."""
    Record.at(loaded, resume)  # what it refuses is refused before anything is started
    processes = loaded.recipe.sharding.world_size

    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says, we say in one screen
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    with tempfile.TemporaryDirectory(prefix="fttool-") as name, _forwarding(Path(name), processes) as asked:
        folder = Path(name)
        os.environ[REPORTS] = name
        others: dict[int, Std] = dict.fromkeys(range(1, processes), Std.ALL)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            shutdown_timeout=GRACE,
            signals_to_handle="SIGQUIT",  # `_forwarding` sees to the others
            logs_specs=DefaultLogsSpecs(log_dir=name, redirects=others),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "fttool", *words)
            return ExitCode.OK
        except ChildFailedError as failed:
            codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
            return _explain(folder, codes, processes, asked)
        except SignalException as stopped:
            return _stopped([stopped.sigval])
        finally:
            del os.environ[REPORTS]
            _keep_logs(folder, Record.place(loaded) / "logs")


def _stopped(asked: Sequence[int]) -> ExitCode:
    return ExitCode.PREEMPTED if signal.SIGTERM in asked else ExitCode.INTERRUPTED


def _explain(folder: Path, codes: Mapping[int, int], processes: int, asked: Sequence[int]) -> int:
    """Say on stderr what went wrong first; returns the exit code for it, or for the signal that was obeyed."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("report-*.json")]
    reports.sort(key=lambda report: (report["lost_touch"], report["time"]))
    own = [report for report in reports if not report["lost_touch"]]
    killed = {rank: -code for rank, code in codes.items() if code < 0 and -code not in asked}
    if asked and not own and not killed:
        # All have saved and left the loop. The first to end takes the others for slow, or is missed by them.
        return _stopped(asked)
    if own or (reports and not killed):
        first = (own or reports)[0]
        print(f"{first['text']}\n    in process {first['rank'] + 1} of {processes}", file=sys.stderr)
        return first["exit_code"]
    if killed:
        rank, number = next(iter(killed.items()))
        print(
            f"process {rank + 1} of {processes} was killed by {signal.Signals(number).name}\n"
            "    the system does this where memory runs out; fttool run … --resume goes on from the newest checkpoint",
            file=sys.stderr,
        )
        return ExitCode.FAILURE
    return max(codes.values(), default=ExitCode.FAILURE)  # each was sent the signal by somebody else


@contextmanager
def _forwarding(folder: Path, processes: int) -> Generator[Sequence[int]]:
    """While open, SIGINT and SIGTERM go to the processes, which stop after their update, with a checkpoint.

    Yields those that have come.
    """
    asked: list[int] = []

    def forward(number: int, frame: Any) -> None:
        asked.append(number)
        started = [int(file.read_text()) for file in folder.glob("process-*")]
        if len(started) < processes:
            from torch.distributed.elastic.multiprocessing.api import SignalException

            raise SignalException("stopped before the first update", signal.Signals(number))
        for process in started:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue  # it has just ended by itself

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_logs(folder: Path, logs: Path) -> None:
    """Append what the processes other than the first have printed to `logs/rank-N.log`, if there is a run directory."""
    if not logs.parent.is_dir():
        return
    for file in sorted(folder.glob("*/attempt_*/*/std*.log")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if text:
            logs.mkdir(exist_ok=True)
            with (logs / f"rank-{file.parent.name}.log").open("a", encoding="utf-8") as log:
                log.write(text)


# -- in a process that was started here ----------------------------------------------------------------------------


def begin_process() -> None:
    """Note this process's number, and end it should the launcher be killed: an orphan would hold the GPU for ever."""
    folder = os.environ.get(REPORTS)
    if folder is None:
        return
    (Path(folder) / f"process-{os.environ['RANK']}").write_text(str(os.getpid()))
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.5)
        os._exit(ExitCode.FAILURE)

    threading.Thread(target=watch, daemon=True).start()


def report(fault: BaseException, text: str, exit_code: int) -> bool:
    """Leave word for the launcher of what ends this process; false in the launcher, which must speak itself."""
    if "RANK" not in os.environ:
        return False
    folder, rank = os.environ[REPORTS], int(os.environ["RANK"])
    content = {
        "rank": rank,
        "time": time.time(),
        "lost_touch": _lost_touch(fault),
        "text": text,
        "exit_code": exit_code,
    }
    if not isinstance(fault, FttoolError):
        content["text"] = "".join(traceback.format_exception(fault)[-6:]) + text
    aside = Path(folder) / f".report-{rank}"
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.rename(Path(folder) / f"report-{rank}.json")
    return True


def _lost_touch(fault: BaseException | None) -> bool:
    """True where a process complains of the others: the cause is what another one says."""
    while fault is not None:
        words = gist(fault).lower()
        if type(fault).__name__ in LOST_TOUCH or (
            type(fault) is RuntimeError and any(word in words for word in LOST_TOUCH_WORDS)
        ):
            return True
        fault = fault.__cause__
    return False


# -- in a process that srun has started ----------------------------------------------------------------------------


def _join_slurm(environment: Any, wanted: int) -> None:
    """Say in torch's words what SLURM says in its own, where `srun` has started the processes of the run."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS")
    if tasks is None or "RANK" in environment or wanted == 1:
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["WORLD_SIZE"] = tasks
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(20000 + int(environment.get("SLURM_JOB_ID", 0)) % 20000))


def first_host(hosts: str) -> str:
    """The first of `node[03-05,9],other`: `node03`."""
    head, bracket, rest = hosts.split(",")[0].partition("[")
    return f"{head}{rest.rstrip(']').split('-')[0]}" if bracket else head
