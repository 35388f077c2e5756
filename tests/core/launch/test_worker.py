"""What a process that a launcher has started says of itself, and when it leaves."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fttool.errors import DataError, FttoolError, OutOfMemoryError, Problem
from fttool.launch import worker
from fttool.world import REPORTS


class ExitedError(Exception):
    """In place of the end of the process."""


def exit_with(code: int) -> None:
    raise ExitedError(code)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where word is left, as the second of two processes does."""
    monkeypatch.setenv(REPORTS, str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    (tmp_path / worker.LAUNCHER).write_text("41")
    return tmp_path


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What would be done in threads of its own."""
    found: list[Callable[[], None]] = []
    thread = lambda target, daemon: SimpleNamespace(start=lambda: found.append(target))  # noqa: E731
    monkeypatch.setattr(worker, "threading", SimpleNamespace(Thread=thread))
    monkeypatch.setattr(os, "_exit", exit_with)
    return found


def test_it_signs_in_and_out(folder: Path, watches: list[Any]) -> None:
    with worker.signed_in():
        assert (folder / "process-1").read_text() == str(os.getpid())
        assert not (folder / "ended-1").exists() and len(watches) == 1
    assert (folder / "ended-1").exists()


def test_one_that_fails_does_not_sign_out(folder: Path, watches: list[Any]) -> None:
    with pytest.raises(RuntimeError), worker.signed_in():
        raise RuntimeError
    assert not (folder / "ended-1").exists()


def test_without_a_launcher_it_signs_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watches: list[Any]
) -> None:
    monkeypatch.delenv(REPORTS, raising=False)
    with worker.signed_in():
        pass
    assert watches == [] and not worker.report(DataError("x"), "x", 4)


def test_it_leaves_with_its_launcher(folder: Path, watches: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    parents, slept = [41, 41, 1], []
    with worker.signed_in():
        monkeypatch.setattr(os, "getppid", lambda: parents.pop(0))
        monkeypatch.setattr(worker.time, "sleep", slept.append)
        with pytest.raises(ExitedError, match="1"):
            watches[0]()
    assert parents == [] and len(slept) == 2


def reported(folder: Path, fault: BaseException, code: int = 1) -> dict[str, Any]:
    try:
        raise fault
    except type(fault) as raised:
        assert worker.report(raised, "what is shown", code)
    assert not list(folder.glob(".*"))
    return json.loads((folder / "report-1.json").read_text())


def test_what_was_expected_is_reported_as_it_is_shown(folder: Path) -> None:
    found = reported(folder, DataError(Problem("a bad row", hint="fix it", where="rows.jsonl:3")), 4)
    assert (found["rank"], found["exit_code"], found["text"], found["expected"]) == (1, 4, "what is shown", True)
    assert found["problems"][0]["message"] == "a bad row" and found["problems"][0]["where"] == "rows.jsonl:3"
    assert not found["lost_touch"] and not found["with_fewer_rows"]


def test_what_was_not_has_its_traceback(folder: Path) -> None:
    found = reported(folder, ZeroDivisionError("by nothing"))
    assert not found["expected"] and found["text"].endswith("what is shown")
    assert "in reported" in found["text"] and "ZeroDivisionError: by nothing" in found["text"]


def test_memory_that_fewer_rows_might_spare(folder: Path) -> None:
    fault = OutOfMemoryError("none is left")
    assert not reported(folder, fault)["with_fewer_rows"]
    fault.with_fewer_rows = True
    assert reported(folder, fault)["with_fewer_rows"]


def caused(by: BaseException) -> FttoolError:
    fault = FttoolError("the run has failed")
    fault.__cause__ = by
    return fault


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        (RuntimeError("Connection closed by peer [127.0.0.1]:4711"), True),
        (RuntimeError("[gloo] Timed out waiting 1800000ms"), True),
        (type("DistStoreError", (RuntimeError,), {})("wait timeout"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("gloo"), False),
        (caused(RuntimeError("NCCL error")), True),
        (caused(ValueError("of its own")), False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_said_of_others_and_what_of_itself(folder: Path, fault: BaseException, lost: bool) -> None:
    assert reported(folder, fault)["lost_touch"] is lost


def test_one_that_has_met_others_leaves_without_pythons_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    state = {"available": True, "initialized": True}
    distributed = SimpleNamespace(is_available=lambda: state["available"], is_initialized=lambda: state["initialized"])
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(distributed=distributed))
    monkeypatch.setattr(worker.atexit, "_run_exitfuncs", lambda: done.append("at exit"))
    monkeypatch.setattr(os, "_exit", exit_with)
    with pytest.raises(ExitedError, match="7"):
        worker.leave(7)
    assert done == ["at exit"]
    for name in ("initialized", "available"):
        state[name] = False
        worker.leave(7)
    monkeypatch.delitem(sys.modules, "torch")
    worker.leave(7)
    assert done == ["at exit"]
