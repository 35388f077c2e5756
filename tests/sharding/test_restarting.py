"""A process dies or hangs: all end within seconds with one message, or start again and end as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import UPDATES
from .sabotage import PASS, sabotage
from .watching import alive, assert_same, children, dist, events, timeless, updates, wait_for

pytestmark = dist


def test_a_killed_process_and_an_unexpected_exception_are_restarted_from(
    tmp_path: Path, recipe: dict[str, Any], started: Any, undisturbed: Path
) -> None:
    """The first before any checkpoint is complete, the second after some are."""
    recipe["run"]["max_steps"] = UPDATES
    recipe["checkpoints"] = {"every": 10}
    recipe["sharding"]["max_restarts"] = 2
    process = started(**sabotage(tmp_path, "raise RuntimeError('a cosmic ray')", update=25))
    wait_for(lambda: updates(tmp_path) >= 2)
    os.kill(children(process)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    run = tmp_path / "runs" / "r"
    assert_same(run, undisturbed)
    found = events(run)
    assert [one["number"] for one in found if one["event"] == "restarted"] == [1, 2]
    assert [one["step"] for one in found if one["event"] == "resumed"] == [0, 20]
    assert "process 1 of 2 was killed by SIGKILL" in said and "gloo" not in said
    assert said.count("Traceback") == 1 and "a cosmic ray\n    in process 2 of 2" in said
    assert "restart 1 of 2" in said and "restart 2 of 2" in said


def test_memory_that_runs_out_halves_the_micro_batch_of_all_processes(
    tmp_path: Path, recipe: dict[str, Any], started: Any, undisturbed: Path
) -> None:
    recipe["run"] |= {"max_steps": UPDATES, "micro_batch": "auto"}
    recipe["checkpoints"] = {"every": 10}
    full = "raise __import__('torch').OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')"
    process = started(**sabotage(tmp_path, full, update=25, at=PASS))
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    run = tmp_path / "runs" / "r"
    found = {one["event"]: one for one in events(run)}
    assert found["restarted"]["how"] == "with run.micro_batch = 2, as memory ran out" and found["resumed"]["step"] == 10
    assert "out of memory" in found["restarted"]["why"] and "in process 2 of 2" in found["restarted"]["why"]
    assert "start again from the newest checkpoint: with run.micro_batch = 2" in said and "try" not in said
    assert losses(run) == pytest.approx(losses(undisturbed), rel=1e-5)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in timeless(run / "metrics.jsonl") if "loss" in line]


def test_what_a_user_must_mend_is_not_tried_again(tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
    """A loss that is not finite ends all, with the rows of all."""
    recipe["regularizers"] = [{"name": "l2-init", "strength": 1e9, "decoupled": True}]
    recipe["sharding"]["max_restarts"] = 3
    process = started()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 8 and "restart" not in said
    assert said.count("is not finite") == 1 and "rows.jsonl:" in said
    run = tmp_path / "runs" / "r"
    assert json.loads((run / "summary.json").read_text())["status"] == "diverged"
    assert "restarted" not in [one["event"] for one in events(run)]


def test_an_exception_is_shown_with_the_traceback_of_who_raised_it(
    tmp_path: Path, recipe: dict[str, Any], started: Any
) -> None:
    """Here the first; above it is the second."""
    recipe["run"]["max_steps"] = 5000
    process = started("--json", **sabotage(tmp_path, "raise KeyError('a bug')", rank=0))
    ranks = wait_for(lambda: len(found := children(process)) == 2 and found)
    shown, said = process.communicate(timeout=60)
    assert process.returncode == 1 and not alive(ranks)
    assert said.count("Traceback") == 1 and said.count("KeyError: 'a bug'") == 2
    assert said.rstrip().endswith("in process 1 of 2") and "gloo" not in said
    told = [json.loads(line) for line in shown.splitlines()]  # programs are told what went wrong first
    (failed,) = (one for one in told if one["event"] == "failed")
    assert failed == told[-1] and failed["exit_code"] == process.returncode == 1
    assert failed["problems"] == [{"message": "KeyError: 'a bug'", "where": "", "hint": ""}]


def test_a_process_that_leaves_without_a_word(tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
    process = started(**sabotage(tmp_path, "os._exit(3)"))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3 and "process 2 of 2 ended with exit code 3 without a message" in said


def test_a_signal_while_a_process_hangs_is_no_success(tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
    """No checkpoint can be written, which 143 would promise."""
    recipe["sharding"]["timeout"] = 20
    process = started(**sabotage(tmp_path, "while True: __import__('time').sleep(1)"))
    wait_for(lambda: (tmp_path / "sabotage" / "done").exists())
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "process 2 of 2 did not answer the others" in said


def test_a_process_that_hangs_before_the_first_update(tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
    recipe["sharding"]["timeout"] = 20
    place = ("fttool.rundir.record", "Record", "place")
    process = started(**sabotage(tmp_path, "__import__('time').sleep(600)", update=1, at=place))
    _, said = process.communicate(timeout=90)
    assert process.returncode == 1 and "process 2 of 2 did not answer the others" in said


def test_a_process_that_hangs_ends_all_after_the_timeout(tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
    """Here it is stopped, and does not even listen to signals; above one sleeps for ever."""
    recipe["run"]["max_steps"] = 5000
    recipe["sharding"]["timeout"] = 20
    process = started(**sabotage(tmp_path, "os.kill(os.getpid(), 19)"))
    ranks = wait_for(lambda: len(found := children(process)) == 2 and found)
    wait_for(lambda: (tmp_path / "sabotage" / "done").exists())
    begun = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and not alive(ranks)
    assert time.monotonic() - begun < 20 + 5 + 10
    assert "process 2 of 2 did not answer the others" in said and "Traceback" not in said and "gloo" not in said
