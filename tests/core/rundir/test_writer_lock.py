"""One process at a time writes into a run directory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fttool.errors import DiskError, UsageError
from fttool.rundir import writer_lock
from fttool.rundir.writer_lock import FILE, Held

HOLD = """
import os, sys, time
from pathlib import Path
from fttool.rundir.writer_lock import Held
held = Held.take(Path(sys.argv[1]))
if len(sys.argv) > 2 and os.fork() == 0:
    time.sleep(60)  # what it has started, and what outlives it
print(os.getpid(), flush=True)
time.sleep(60)
"""


def holder(folder: Path, *more: str) -> "subprocess.Popen[str]":
    """Another process that holds a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert int(process.stdout.readline())
    return process


def test_a_second_process_is_refused_with_the_name_of_the_first_until_that_is_killed(tmp_path: Path) -> None:
    other = holder(tmp_path)
    try:
        with pytest.raises(UsageError, match=f"process {other.pid} on {socket.gethostname()} is writing into"):
            Held.take(tmp_path)
    finally:
        other.kill()
        other.communicate()
    assert (tmp_path / FILE).exists()
    Held.take(tmp_path).release()
    assert not (tmp_path / FILE).exists()


def test_what_a_killed_process_has_left_running_does_not_hold_the_folder(tmp_path: Path) -> None:
    """A loader process that was forked still has the kernel's lock."""
    other = holder(tmp_path, "fork")
    try:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        held = Held.take(tmp_path)
        assert held.mine()
        with pytest.raises(UsageError, match=f"process {os.getpid()} on"):
            Held.take(tmp_path)
        held.release()
    finally:
        os.killpg(other.pid, signal.SIGKILL)
        other.communicate()


def test_the_same_process_holds_a_folder_once(tmp_path: Path) -> None:
    with writer_lock.writer_lock(tmp_path), pytest.raises(UsageError, match="one process at a time"):
        Held.take(tmp_path)
    with writer_lock.writer_lock(tmp_path):
        assert (tmp_path / FILE).exists()


def test_a_number_that_another_process_has_got_since_is_not_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_lock, "_lock", lambda handle: None)  # a disk without locks: the content decides
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time() - 10**6}
    (tmp_path / FILE).write_text(json.dumps(mine))
    held = Held.take(tmp_path)
    with pytest.raises(UsageError, match="is writing into"):
        Held.take(tmp_path)
    held.release()


@pytest.mark.parametrize(("age", "locked", "refused"), [(5, False, True), (300, False, True), (700, False, False)])
def test_a_process_of_another_machine_is_judged_by_its_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, locked: bool, refused: bool
) -> None:
    """Where the kernel says that it still has the lock."""
    (tmp_path / FILE).write_text(json.dumps({"host": "node07", "pid": 4711, "started": 1.0}))
    os.utime(tmp_path / FILE, (time.time() - age, time.time() - age))
    answers = iter([locked, True, True])
    monkeypatch.setattr(writer_lock, "_lock", lambda handle: next(answers))
    if refused:
        with pytest.raises(UsageError, match="process 4711 on node07 is writing into") as said:
            Held.take(tmp_path)
        assert "delete" in said.value.problems[0].hint and FILE in said.value.problems[0].hint
    else:
        Held.take(tmp_path).release()


@pytest.mark.parametrize("lives", [True, False])
def test_where_the_lock_is_free_a_process_of_another_machine_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    """A disk may keep locks to one machine: only a sign of life tells."""
    monkeypatch.setattr(writer_lock, "QUIET", 2.0)
    (tmp_path / FILE).write_text(json.dumps({"host": "node07", "pid": 4711, "started": 1.0}))
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if lives:
            monkeypatch.setattr(time, "sleep", lambda seconds: os.utime(tmp_path / FILE))

    os.utime(tmp_path / FILE, (time.time() - 1, time.time() - 1))
    if lives:
        with pytest.raises(UsageError, match="process 4711 on node07"):
            Held.take(tmp_path, note)
    else:
        Held.take(tmp_path, note).release()
    assert len(notes) == 1 and "waiting for a sign of life of process 4711 on node07" in notes[0]


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_lock, "BEAT", 0.05)
    held = Held.take(tmp_path)
    os.utime(tmp_path / FILE, (1, 1))
    until = time.monotonic() + 10
    while (tmp_path / FILE).stat().st_mtime == 1 and time.monotonic() < until:
        time.sleep(0.02)
    assert (tmp_path / FILE).stat().st_mtime > 1
    held.release()


def test_a_folder_that_is_moved_or_deleted_is_lost_and_the_place_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    held = Held.take(folder)
    held.refuse_loss()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="was moved to") as moved:
        held.refuse_loss()
    assert str(tmp_path / "elsewhere") in str(moved.value) and "--set run.name='elsewhere'" in str(moved.value)
    folder.mkdir()  # another folder of that name is not the one that was held
    with pytest.raises(DiskError, match="was moved to"):
        held.refuse_loss()
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="was moved away or deleted"):
        held.refuse_loss()
    held.release()
    assert not (folder / FILE).exists()


def test_who_was_taken_over_is_told(tmp_path: Path) -> None:
    held = Held.take(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).write_text(json.dumps({"host": "node07", "pid": 4711, "started": 1.0}))
    with pytest.raises(DiskError, match="taken over by process 4711 on node07"):
        held.refuse_loss()
    held.release()
    assert (tmp_path / FILE).exists()
