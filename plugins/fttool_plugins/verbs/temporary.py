"""A folder for what a verb makes on its way and does not keep."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fttool.api import ExitCode


@contextmanager
def temporary(verb: str) -> Generator[Path]:
    """A folder that is gone afterwards, where SIGTERM ends it all too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.PREEMPTED))
    try:
        with tempfile.TemporaryDirectory(prefix=f"fttool-{verb}-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, before)
