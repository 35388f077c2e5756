"""What the launcher does around torch's elastic launcher, which is played here: it ends as a test says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api

from fttool.errors import FttoolError
from fttool.launch import launching
from fttool.launch.launching import launch
from fttool.launch.nodes import Nodes
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.watch.screen import Screen
from fttool.world import REPORTS

Attempt = Callable[[], None]
FRESH, AGAIN = ["run", "r.toml"], ["run", "r.toml", "--resume"]


class Noting(Screen):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.failures: list[int] = []

    def note(self, text: str, hint: str = "") -> None:
        self.notes.append(text)

    def failed(self, problems: Any, exit_code: int) -> None:
        self.failures.append(exit_code)


@pytest.fixture
def loaded(tmp_path: Path, fttool_recipe: dict[str, Any]) -> Callable[..., Loaded]:
    """A recipe for two processes, whose run directory is `runs/r`."""

    def make(*overrides: str) -> Loaded:
        fttool_recipe["sharding"] = {"name": "ddp", "processes": 2}
        fttool_recipe["run"] |= {"output": str(tmp_path / "runs"), "name": "r"}
        (tmp_path / "r.toml").write_text(tomli_w.dumps(fttool_recipe))
        return load(tmp_path / "r.toml", overrides)

    return make


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[list[str]]]]:
    """Play attempts one after the other; the words of each are noted."""
    before = dict(os.environ)

    def play(*planned: Attempt) -> list[list[str]]:
        left, given = list(planned), []

        def elastic(config: Any, program: str) -> Callable[..., None]:
            assert program == sys.executable and config.nproc_per_node == 2 and config.max_restarts == 0

            def start(*words: str) -> None:
                assert words[:2] == ("-m", "fttool")
                given.append(list(words[2:]))
                left.pop(0)()

            return start

        monkeypatch.setattr(api, "elastic_launch", elastic)
        return given

    yield play
    os.environ.clear()
    os.environ.update(before)


def folder() -> Path:
    return Path(os.environ[REPORTS])


def sign_in(*processes: int) -> None:
    for rank, process in enumerate(processes):
        aside = folder() / f".{rank}"
        aside.write_text(str(process))
        aside.rename(folder() / f"process-{rank}")  # complete or absent, as a worker does it


def fail(*codes: int) -> None:
    """As torch's launcher does where processes have ended so; 0 is well."""
    failed = ChildFailedError.__new__(ChildFailedError)
    failed.failures = {rank: SimpleNamespace(exitcode=code) for rank, code in enumerate(codes) if code}
    raise failed


def report(rank: int = 0, **more: Any) -> None:
    said = {"rank": rank, "time": 1.0, "lost_touch": False, "expected": False, "problems": [{"message": "oh"}]}
    said |= {"text": "oh", "exit_code": 1, "with_fewer_rows": False, **more}
    (folder() / f"report-{rank}.json").write_text(json.dumps(said))


def begun(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "lock.json").write_text("{}")


def well() -> None:
    """An attempt in which nothing happens."""


def test_a_run_that_goes_well_leaves_no_trace_of_the_launcher(
    loaded: Any, attempts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, screen = attempts(well), Noting()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launch(FRESH, loaded(), screen, Nodes(), going_on=AGAIN) == 0
    assert given == [FRESH] and screen.notes == [] and REPORTS not in os.environ
    assert int(os.environ["OMP_NUM_THREADS"]) == max(1, (os.cpu_count() or 1) // 2)
    assert os.environ["GLOO_SOCKET_IFNAME"] in ("lo", "lo0") and os.environ["PYTHONFAULTHANDLER"] == "1"


def test_what_nobody_expected_is_tried_again_and_then_said(
    loaded: Any, attempts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, screen = tmp_path / "runs" / "r", Noting()

    def breaks() -> None:
        begun(run)
        report(text="RuntimeError: a cosmic ray")
        fail(1, -signal.SIGTERM)

    given = attempts(breaks, breaks)
    assert launch(FRESH, loaded("sharding.max_restarts=1"), screen, Nodes(), going_on=AGAIN) == 1
    assert given == [FRESH, AGAIN], "there is a run directory to resume"
    assert screen.notes == ["all processes start again from the beginning: restart 1 of 1"] and screen.failures == [1]
    assert capsys.readouterr().err.count("RuntimeError: a cosmic ray\n    in process 1 of 2") == 2
    (event,) = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["number"], event["how"]) == ("restarted", 1, "restart 1 of 1")


def test_what_a_user_must_mend_is_said_once(loaded: Any, attempts: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def refuses() -> None:
        report(expected=True, exit_code=4, text="error: a bad row")
        fail(4, 4)

    given = attempts(refuses)
    assert launch(FRESH, loaded("sharding.max_restarts=3"), Noting(), Nodes(), going_on=AGAIN) == 4
    assert given == [FRESH] and "error: a bad row" in capsys.readouterr().err


def test_memory_that_runs_out_halves_what_goes_at_once(loaded: Any, attempts: Any, tmp_path: Path) -> None:
    def runs_out() -> None:
        begun(tmp_path / "runs" / "r")
        report(exit_code=7, expected=True, with_fewer_rows=True)
        fail(7, 7)

    given, screen = attempts(runs_out, runs_out, well), Noting()
    recipe = loaded("run.micro_batch=auto", "run.global_batch=16")
    most = recipe.recipe.micro_batch
    assert launch(FRESH, recipe, screen, Nodes(), going_on=AGAIN) == 0
    halves = [recipe.recipe.fewer_at_once(most), recipe.recipe.fewer_at_once(recipe.recipe.fewer_at_once(most))]
    assert given == [FRESH, *([*AGAIN, "--set", f"run.micro_batch={rows}"] for rows in halves)]
    assert f"with run.micro_batch = {halves[0]}, as memory ran out" in screen.notes[0]


def test_a_resumed_run_begins_with_what_was_found_to_fit(loaded: Any, attempts: Any, tmp_path: Path) -> None:
    recipe, run = loaded("run.micro_batch=auto", "run.global_batch=16"), tmp_path / "runs" / "r"
    begun(run)
    (run / "recipe.resolved.toml").write_text("[run]\nmicro_batch = 2\n")
    given = attempts(well)
    assert launch(AGAIN, recipe, Noting(), Nodes(), going_on=None) == 0
    assert given == [[*AGAIN, "--set", "run.micro_batch=2"]]


@pytest.fixture
def sleeping() -> Iterator[list[subprocess.Popen[bytes]]]:
    code = "import signal, time; signal.signal(2, signal.SIG_DFL); print(flush=True); time.sleep(60)"
    # A shell's job in the background begins deaf to SIGINT, and so would its children.
    made = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    for process in made:
        assert process.stdout is not None
        with process.stdout as heard:
            heard.readline()
    yield made
    for process in made:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_is_handed_on(
    loaded: Any, attempts: Any, sleeping: list[subprocess.Popen[bytes]], number: int, code: int
) -> None:
    def stopped() -> None:
        sign_in(*(process.pid for process in sleeping))
        os.kill(os.getpid(), number)
        assert [process.wait(10) for process in sleeping] == [-number, -number]
        assert (folder() / "asked").exists()
        for rank in range(2):
            (folder() / f"ended-{rank}").touch()
        fail(code, code)

    before = signal.getsignal(number)
    given = attempts(stopped)
    assert launch(FRESH, loaded("sharding.max_restarts=3"), Noting(), Nodes(), going_on=AGAIN) == code
    assert given == [FRESH] and signal.getsignal(number) is before


def test_a_signal_before_all_have_signed_in_ends_the_start(
    loaded: Any, attempts: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert launch(FRESH, loaded(), Noting(), Nodes(), going_on=AGAIN) == 143
    assert "stopped by SIGTERM, before the start" in capsys.readouterr().err


def test_who_stays_when_another_has_failed_is_killed(
    loaded: Any, attempts: Any, sleeping: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "GRACE", 0.1)

    def one_hangs() -> None:
        sign_in(*(process.pid for process in sleeping))
        report(0, exit_code=5, expected=True)
        assert sleeping[1].wait(10) == -signal.SIGKILL
        sleeping[0].kill()
        fail(5, -signal.SIGKILL)

    attempts(one_hangs)
    assert launch(FRESH, loaded(), Noting(), Nodes(), going_on=AGAIN) == 5


def test_what_the_others_print_is_kept(loaded: Any, attempts: Any, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"

    def prints() -> None:
        begun(run)
        for rank, text in ((0, ""), (1, "where it was\n")):
            place = folder() / "fttool_x" / "attempt_0" / str(rank)
            place.mkdir(parents=True)
            (place / "stderr.log").write_text(text)

    attempts(prints)
    assert launch(FRESH, loaded(), Noting(), Nodes(), going_on=AGAIN) == 0
    assert [(file.name, file.read_text()) for file in (run / "logs").iterdir()] == [("rank-1.log", "where it was\n")]


def test_processes_that_cannot_be_brought_together(loaded: Any, attempts: Any) -> None:
    def lost() -> None:
        raise RuntimeError("the store does not answer")

    attempts(lost)
    with pytest.raises(FttoolError, match=r"could not be brought together: .*the store does not answer"):
        launch(FRESH, loaded(), Noting(), Nodes(), going_on=AGAIN)
