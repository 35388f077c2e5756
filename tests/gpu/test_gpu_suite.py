"""The GPU suite works, as far as a machine without a GPU can show; its figures there mean nothing."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def suite() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_suite", HERE / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.full
def test_every_part_gives_its_figures(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in a process of its own, as all are otherwise; the others here, where torch has been imported."""
    monkeypatch.syspath_prepend(HERE)
    apart = suite.run_part

    def part_found(name: str, quick: bool) -> Any:
        if name == "proof":
            return apart(name, quick)
        return {**runpy.run_path(str(HERE / f"{name}.py"))["measure"](tmp_path / name, quick), "seconds": 0}

    monkeypatch.setattr(suite, "run_part", part_found)
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick"])
    assert suite.main() == 0
    shown = capsys.readouterr()
    assert "formats (0 s)\n  ok   fp32: losses against the CPU's in fp32: " in shown.err
    parts = json.loads(shown.out)["parts"]
    checks = {name: [one["what"] for one in part["checks"]] for name, part in parts.items()}
    assert len(checks["formats"]) == 4, "fp32 and bf16, each by its losses and its evaluation loss"
    assert len(checks["proof"]) == 1, "sdpa beside eager"
    assert len(checks["pulls"]) == 4
    assert len(checks["resume"]) == 1
    assert parts["resume"]["bitwise"]
    contest = [value for key, value in parts["throughput"].items() if key.startswith("vocabulary_")]
    assert len(contest) == 2
    for one in contest:  # the same batches and weights: the same losses
        assert one["fttool"]["last_loss"] == pytest.approx(one["hand_written"]["last_loss"], rel=2e-2)
        assert one["fttool"]["last_loss"] == pytest.approx(one["trl"]["last_loss"], rel=2e-2)


def test_with_a_gpu_a_run_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here its words alone can be tried."""
    monkeypatch.syspath_prepend(HERE)
    import part

    assert part._apart(["--version"], cpu=True) == (0, "")
    code, said = part._apart(["run", "no-such.toml"], cpu=False)
    assert code == 3 and "no-such.toml" in said


def test_a_part_that_crashes_or_hangs_is_told_and_ends_no_other(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashes.py").write_text("import os; os.abort()")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    (tmp_path / "works.py").write_text('print("noise"); print(\'{"checks": []}\')')
    monkeypatch.setattr(suite, "HERE", tmp_path)
    monkeypatch.setattr(suite, "PARTS", {"crashes": 20, "hangs": 0.5, "works": 20})
    found = {name: suite.run_part(name, quick=False) for name in suite.PARTS}
    assert found["crashes"]["failed"].startswith("exit -6")
    assert found["hangs"]["failed"] == "not done after 0.5 s"
    assert [suite.held(part) for part in found.values()] == [False, False, True]


def test_a_figure_beyond_its_bound_and_a_failure_inside_a_part_are_misses(suite: Any) -> None:
    miss = {"what": "a", "value": 2.0, "at_most": 1.0, "ok": False}
    assert not suite.held({"checks": [miss], "seconds": 1})
    assert not suite.held({"checks": [], "bf16": {"failed": "exit 5: no"}, "seconds": 1})
    shown = suite.table({"formats": {"checks": [miss], "bf16": {"failed": "exit 5: no"}, "seconds": 1}})
    assert "MISS a: 2.0 (at most 1.0)" in shown and "FAILED exit 5: no" in shown


def test_what_is_missing_is_said(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "version", lambda name: {"torch": "2.10.1+cpu"}.get(name, "99.0"))
    assert suite.missing() == ["torch is 2.10.1+cpu; it takes 2.11 or newer"]
