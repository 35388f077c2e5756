"""A process that a launcher has started: it signs in, leaves with its launcher, and says what has ended it."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode, FttoolError, OutOfMemoryError, gist
from fttool.watch.screen import failure
from fttool.world import REPORTS

LOST_TOUCH = ("DistBackendError", "DistNetworkError", "DistStoreError")
LOST_TOUCH_WORDS = ("closed by peer", "reset by peer", "gloo", "nccl", "timed out waiting")
"""What a process says of the others, not of itself."""

LAUNCHER = "launcher"
"""The file in which the launcher says its process number."""


@contextmanager
def signed_in() -> Generator[None]:
    """Around a run: note this process's number, and that it has ended by itself."""
    folder = os.environ.get(REPORTS)
    if folder is not None:
        _sign_in(Path(folder), os.environ["RANK"])
    yield
    if folder is not None:
        (Path(folder) / f"ended-{os.environ['RANK']}").touch()


def _sign_in(folder: Path, rank: str) -> None:
    """Should the launcher be killed, this process ends: an orphan would hold the GPU for ever."""
    aside = folder / f".process-{rank}"
    aside.write_text(str(os.getpid()))
    aside.rename(folder / f"process-{rank}")
    launcher = int((folder / LAUNCHER).read_text())  # asked for its number, it may be gone already

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.5)
        os._exit(ExitCode.FAILURE)

    threading.Thread(target=watch, daemon=True).start()


def leave(exit_code: int) -> None:
    """End a process that has met others, once all is said and written.

    Without Python's own way out: threads of torch that ask for the interpreter then abort the process, now and again.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def report(fault: BaseException, text: str, exit_code: int) -> bool:
    """Leave word for the launcher of what ends this process; false in the launcher, which must speak itself."""
    if "RANK" not in os.environ:
        return False
    folder, rank = os.environ[REPORTS], int(os.environ["RANK"])
    expected = isinstance(fault, FttoolError)
    content = {
        "rank": rank,
        "time": time.time(),
        "lost_touch": _lost_touch(fault),
        "expected": expected,
        "problems": [asdict(problem) for problem in failure(fault)[0]],
        "text": text if expected else "".join(traceback.format_exception(fault, limit=-5)) + text,
        "exit_code": exit_code,
        "with_fewer_rows": isinstance(fault, OutOfMemoryError) and fault.with_fewer_rows,
    }
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
