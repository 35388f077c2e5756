"""Start the processes of a run through torch's elastic launcher, and start all of them again where one has died.

The launcher is `fttool run` itself, one on each machine. It starts the same command once per process, tells each its
rank through the environment, and speaks for all of them at the end: of all that went wrong, it shows what went wrong
first. The process of rank 0 shows the run; the output of the others is kept in `logs/` in the run directory.

An attempt is one launch without restarts of its own: whether another one follows is decided here, by all launchers
alike and from the same facts, as torch's agent cannot tell what must not be tried again (a wrong recipe, a loss that is
not finite) and counts the restarts of each machine apart.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from fttool.errors import FttoolError, gist
from fttool.events import Restarted
from fttool.launch.nodes import Nodes, loopback
from fttool.launch.verdict import Ended, judge
from fttool.launch.worker import LAUNCHER
from fttool.recipe.loaded import Loaded
from fttool.rundir import checkpoints
from fttool.rundir.record import Record
from fttool.runs.stopping import ASKED, FROM_OUTSIDE, handled
from fttool.visible import show
from fttool.watch.screen import Screen
from fttool.world import REPORTS

GRACE = 5
"""Seconds that the others have to leave once one has failed; then they are killed."""


def launch(
    words: Sequence[str], loaded: Loaded, screen: Screen, nodes: Nodes, *, going_on: Sequence[str] | None
) -> int:
    """Run `fttool WORDS` in as many processes as the recipe asks for, and say what failed; returns the exit code.

    `going_on` are the words by which the run goes on once it has begun; None where `words` do so themselves.
    """
    record = Record.at(loaded, resume=going_on is None)  # what it refuses is refused before anything is started
    wanted = loaded.recipe.sharding.launch
    processes = Processes(wanted.processes // nodes.size, nodes)
    _set_environment(processes.number, alone=nodes.size == 1)
    with _forwarding(processes):
        if nodes.size > 1:
            screen.stage(f"node {nodes.rank} of {nodes.size} meets the others at {nodes.host}:{nodes.port}")
        at_once = _rows_at_once(loaded, record, resumed=going_on is None)
        attempt = restarts = 0
        while True:
            micro_batch = ["--set", f"run.micro_batch={at_once}"] if at_once < loaded.recipe.micro_batch else []
            ended = nodes.gather(attempt, _attempt([*words, *micro_batch], processes, attempt, record))
            verdict = judge(ended, wanted.processes, nodes.rank)
            fewer = verdict.with_fewer_rows and loaded.recipe.run.micro_batch == "auto" and at_once > 1
            if verdict.text and not fewer:
                show(*verdict.text.split("\n"), error=True)
            if fewer:
                at_once = loaded.recipe.fewer_at_once(at_once)
                how = f"with run.micro_batch = {at_once}, as memory ran out"
            elif verdict.again and restarts < wanted.max_restarts:
                restarts += 1
                how = f"restart {restarts} of {wanted.max_restarts}"
            else:
                if verdict.text:
                    screen.failed(verdict.problems, verdict.exit_code)
                return verdict.exit_code
            attempt += 1
            begun = ended[0] is not None and ended[0].begun  # one answer for all: a shared disk may show it late
            where = "the newest checkpoint" if checkpoints.steps(record.checkpoints) else "the beginning"
            text = f"all processes start again from {where}: {how}"
            restarted = Restarted(text=text, number=attempt, why=verdict.text, how=how)
            screen.event(restarted)
            if nodes.first:
                record.event(restarted)
            if begun and going_on is not None:
                words = going_on


def _set_environment(processes: int, *, alone: bool) -> None:
    """What the processes are to have in theirs; `alone`: all of the run's are on this machine."""
    # Each process would start a thread per core, and all of them would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    if alone and (own := loopback()):  # what gloo and NCCL open is for this machine alone
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", own)
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # one that crashes in native code says where it was
    if not {"", str(Path.cwd())} & set(sys.path):  # then the processes must not either, as `-m` would make them
        os.environ.setdefault("PYTHONSAFEPATH", "1")


def _rows_at_once(loaded: Loaded, record: Record, *, resumed: bool) -> int:
    """The recipe's micro-batch; under `auto` a resumed run begins with what was found before it stopped."""
    rows: Any = None
    if resumed and loaded.recipe.run.micro_batch == "auto":
        with suppress(OSError, ValueError, KeyError):  # what is wrong with it, the processes will say
            text = (record.path / "recipe.resolved.toml").read_text(encoding="utf-8")
            rows = tomli.loads(text)["run"]["micro_batch"]
    return rows if isinstance(rows, int) else loaded.recipe.micro_batch


@dataclass
class Processes:
    """Those of this machine: as they have signed in, in the present attempt."""

    number: int
    nodes: Nodes
    asked: list[int] = field(default_factory=list[int])
    """The signals that the launcher was sent."""
    folder: Path | None = None
    """Where they leave word; None between attempts."""

    def started(self) -> dict[int, int]:
        """Process number by rank."""
        files = self.folder.glob("process-*") if self.folder else ()
        return {int(file.name.rpartition("-")[2]): int(file.read_text()) for file in files}

    def running(self) -> dict[int, int]:
        """Of these, the ones that have not ended."""
        return {rank: process for rank, process in self.started().items() if _send(process, 0)}

    def failed(self) -> bool:
        """True once one of them has said so, or has gone without a word."""
        assert self.folder is not None
        gone = self.started().keys() - self.running().keys()
        return any(self.folder.glob("report-*.json")) or any(
            not (self.folder / f"ended-{rank}").exists() for rank in gone
        )


def _attempt(words: Sequence[str], processes: Processes, attempt: int, record: Record) -> Ended:
    """Start the processes of this machine and wait until all have ended."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for name in list(logging.root.manager.loggerDict):  # what they say, we say in one screen
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    nodes = processes.nodes
    codes: dict[str, int] = {}
    reaped: list[int] = []
    finished = False
    with tempfile.TemporaryDirectory(prefix="fttool-") as name:
        os.environ[REPORTS] = name
        try:
            (Path(name) / LAUNCHER).write_text(str(os.getpid()))
            processes.folder = Path(name)
            if processes.asked:  # between two attempts
                raise SignalException("stopped before the start", signal.Signals(processes.asked[0]))
            if attempt == 0:
                nodes.meet()
            config = _config(processes, nodes.endpoint(attempt))
            with _reaping(processes, attempt) as reaped:
                elastic_launch(config, sys.executable)("-m", "fttool", *words)
                finished = True
        except ChildFailedError as failed:
            codes = {str(rank): failure.exitcode for rank, failure in failed.failures.items()}
        except SignalException as stopped:
            processes.asked.append(stopped.sigval)
        except (RuntimeError, TimeoutError) as fault:
            raise FttoolError(f"the processes of the nodes could not be brought together: {gist(fault)}") from fault
        finally:
            processes.folder = None
            del os.environ[REPORTS]
            _keep_logs(Path(name), record.path / "logs", processes)
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in Path(name).glob("report-*.json")]
    if codes or processes.asked:
        nodes.alarm(attempt)
    begun = (record.path / "lock.json").is_file()
    return Ended(codes=codes, reports=reports, reaped=reaped, asked=processes.asked, begun=begun, finished=finished)


def _config(processes: Processes, endpoint: str) -> Any:
    """One attempt of a fixed number of processes, whose ranks follow from that of the machine."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    nodes = processes.nodes
    quiet = range(1 if nodes.first else 0, processes.number)
    return LaunchConfig(
        min_nodes=nodes.size,
        max_nodes=nodes.size,
        nproc_per_node=processes.number,
        run_id="fttool",
        rdzv_backend="static",
        rdzv_endpoint=endpoint,
        rdzv_configs={"rank": nodes.rank, "timeout": 60},  # all launchers are here already, see `Nodes.meet`
        max_restarts=0,  # torch's agent would start again what must not be tried again, see `launch`
        shutdown_timeout=GRACE,
        signals_to_handle="SIGQUIT",  # `_forwarding` sees to the others
        logs_specs=DefaultLogsSpecs(log_dir=str(processes.folder), redirects=dict.fromkeys(quiet, Std.ALL)),
    )


@contextmanager
def _forwarding(processes: Processes) -> Generator[None]:
    """While open, SIGINT, SIGTERM and SIGHUP go to the processes, which stop after their update, with a checkpoint."""

    def forward(number: int, frame: Any) -> None:
        processes.asked.append(number)
        started = processes.started()
        if processes.folder is not None and len(started) < processes.number:
            from torch.distributed.elastic.multiprocessing.api import SignalException

            with suppress(RuntimeError):  # the signal came while a line was written
                show(f"stopped by {signal.Signals(number).name}, before the start", error=True)
            raise SignalException("stopped before the first update", signal.Signals(number))
        if processes.folder is not None:
            (processes.folder / ASKED).touch()
        for process in started.values():
            _send(process, number)

    with handled(forward, signal.SIGINT, *FROM_OUTSIDE):
        yield


@contextmanager
def _reaping(processes: Processes, attempt: int) -> Generator[list[int]]:
    """While open, processes that stay when another one has failed, here or on another machine, are killed.

    torch's agent would wait for 30 seconds, and knows of its own machine alone. Yields the ranks of the killed.
    """
    reaped: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not processes.failed() and not processes.nodes.alarmed(attempt):
            if over.wait(0.25):
                return
        processes.nodes.alarm(attempt)
        if not over.wait(GRACE):
            for rank, process in processes.running().items():
                if _send(process, signal.SIGKILL):
                    reaped.append(rank)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield reaped
    finally:
        over.set()
        watcher.join()


def _send(process: int, number: int) -> bool:
    """Send a signal; false where the process has just ended by itself."""
    try:
        os.kill(process, number)
        return True
    except ProcessLookupError:
        return False


def _keep_logs(folder: Path, logs: Path, processes: Processes) -> None:
    """Append what the processes other than the first have printed to `logs/rank-N.log`, if there is a run directory."""
    if not logs.parent.is_dir():
        return
    for file in sorted(folder.glob("*/attempt_*/*/std*.log")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if text:
            rank = processes.nodes.rank * processes.number + int(file.parent.name)
            logs.mkdir(exist_ok=True)
            with (logs / f"rank-{rank}.log").open("a", encoding="utf-8") as log:
                log.write(text)
