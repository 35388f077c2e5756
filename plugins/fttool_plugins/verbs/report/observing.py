"""A run that writes its report by itself, where its recipe has `observe = ["report"]` under `[plugins]`.

At its end, however it ends, and as it goes on: after a checkpoint, but at most once in `SECONDS`, for a page takes a
second of a processor.
"""

from __future__ import annotations

import time
from pathlib import Path

from fttool.api import hookimpl

SECONDS = 60.0
"""Between two pages of a run that goes on."""


class Observed:
    """The run of this process."""

    def __init__(self) -> None:
        self.run: Path | None = None
        self.written = 0.0

    def begin(self, run: Path) -> None:
        """Another run begins."""
        self.run, self.written = run, time.monotonic()

    def write(self) -> None:
        """Write its page."""
        from fttool_plugins.verbs.report.reading import read
        from fttool_plugins.verbs.report.writing import page_of, refuse_foreign, write

        if self.run is not None:
            file = page_of([self.run])
            refuse_foreign(file)
            write(file, read([self.run]))
            self.written = time.monotonic()


observed = Observed()


@hookimpl
def fttool_run_started(run_dir: Path) -> None:
    """From now on there is a run directory."""
    observed.begin(run_dir)


@hookimpl
def fttool_checkpoint_saved() -> None:
    """A page from time to time."""
    if time.monotonic() - observed.written >= SECONDS:
        observed.write()


@hookimpl
def fttool_run_finished() -> None:
    """The page of the run as it ended."""
    observed.write()
