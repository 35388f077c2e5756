"""Work that is shared between processes: the same results, in the same order, and the same errors."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from fttool.rows.workers import CHUNK, mapped


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3])
def test_results_come_in_order_whatever_the_number(workers: int, size: int) -> None:
    assert list(mapped(lambda item: (item, str(item) * 50), range(size), workers)) == [
        (item, str(item) * 50) for item in range(size)
    ]


def test_the_work_is_done_elsewhere(tmp_path: Path) -> None:
    pids = set(mapped(lambda _: os.getpid(), range(4 * CHUNK), 2))
    assert len(pids) == 2 and os.getpid() not in pids
    assert not any(map(psutil.pid_exists, pids)), "a worker is left behind"


def test_what_fails_there_is_raised_here() -> None:
    def work(item: int) -> int:
        if item == 3 * CHUNK + 5:
            raise KeyError(os.getpid())
        return item

    seen: list[int] = []
    with pytest.raises(KeyError) as raised:
        for item in mapped(work, range(5 * CHUNK), 2):
            seen.append(item)
    assert seen == list(range(3 * CHUNK + 5)) and raised.value.args == (os.getpid(),)


def test_what_cannot_be_sent_is_made_here() -> None:
    made = list(mapped(lambda item: (lambda: item) if item % 50 == 7 else item, range(4 * CHUNK), 2))
    assert [item() if callable(item) else item for item in made] == list(range(4 * CHUNK))


def test_a_worker_that_dies_leaves_its_rows_to_the_others() -> None:
    here = os.getpid()

    def work(item: int) -> int:
        if item == 2 * CHUNK and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    assert list(mapped(work, range(6 * CHUNK), 2)) == list(range(6 * CHUNK))


def test_whoever_stops_early_leaves_nobody() -> None:
    results = mapped(lambda item: (os.getpid(), "x" * 10_000), range(50 * CHUNK), 2)
    pid, _ = next(results)
    results.close()
    assert not psutil.pid_exists(pid)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    log = tmp_path / "pids"

    def parent() -> None:
        for pid, _ in mapped(lambda item: (os.getpid(), "x" * 10_000), range(50 * CHUNK), 2):
            with log.open("a") as file:
                file.write(f"{pid}\n")
            time.sleep(0.01)

    process = fork.Process(target=parent)
    process.start()
    while not log.exists() or len(pids := set(log.read_text().split())) < 2:
        time.sleep(0.05)
    process.kill()
    process.join()
    psutil.wait_procs([psutil.Process(int(pid)) for pid in pids if psutil.pid_exists(int(pid))], timeout=20)
    assert not [pid for pid in pids if psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != "zombie"]
