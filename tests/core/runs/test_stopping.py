"""Which signals end a run at once, and that one which is on its way out is let write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fttool.errors import StoppedError
from fttool.runs.stopping import ASKED, stoppable, undisturbed
from fttool.world import REPORTS


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_a_second_one_does_not_disturb(number: int) -> None:
    written: list[str] = []
    with pytest.raises(StoppedError, match=signal.Signals(number).name) as stopped, stoppable():
        try:
            send(number)
        finally:
            send(signal.SIGTERM)
            send(signal.SIGHUP)
            written.append("summary")
    assert written == ["summary"] and stopped.value.exit_code == 128 + number


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """A shell's job in the background begins deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_says_how_a_run_ended_is_written_to_its_end(number: int, hears_ctrl_c: None) -> None:
    written: list[str] = []
    with stoppable():
        with undisturbed():
            written.append("summary")
            send(number)
            written.append("event")
        assert written == ["summary", "event"]
        with pytest.raises(KeyboardInterrupt):  # and afterwards it is heard again
            send(number)


STARTED = """
import os, signal, sys
from fttool.errors import StoppedError
from fttool.runs.stopping import stoppable
try:
    with stoppable():
        os.kill(os.getpid(), int(sys.argv[1]))
        print("went on")
except StoppedError as stopped:
    print(stopped)
"""


@pytest.mark.parametrize(
    ("number", "asked", "code", "said"),
    [
        (signal.SIGTERM, True, 0, "stopped by SIGTERM"),
        (signal.SIGTERM, False, -signal.SIGTERM, ""),  # another one has failed, and torch ends the others
        (signal.SIGHUP, False, 0, "stopped by SIGHUP"),  # that is never the launcher's
    ],
)
def test_a_process_that_a_launcher_has_started(tmp_path: Path, number: int, asked: bool, code: int, said: str) -> None:
    if asked:
        (tmp_path / ASKED).touch()
    words = [sys.executable, "-c", STARTED, str(int(number))]
    environment = {**os.environ, REPORTS: str(tmp_path)}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.strip()) == (code, said), ended.stderr
