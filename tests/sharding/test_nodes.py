"""A launcher on each machine, and one run: here two on one machine, which meet over the loopback."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main

from .conftest import UPDATES
from .sabotage import sabotage
from .watching import alive, assert_same, children, dist, events, free_port, updates, wait_for


@pytest.fixture
def two(started: Any) -> Any:
    """Start the launchers of two nodes."""

    def start(*words: str, **environment: str) -> tuple[Any, Any]:
        told = ["--nodes", "2", "--rendezvous", f"localhost:{free_port()}", *words]
        second = started(*told, "--node-rank", "1", **environment)
        return started(*told, "--node-rank", "0", **environment), second

    return start


class TestTwoLaunchers:
    pytestmark = dist

    def test_one_run_that_restarts_on_both(
        self, tmp_path: Path, recipe: dict[str, Any], two: Any, undisturbed: Path
    ) -> None:
        recipe["run"]["max_steps"] = UPDATES
        recipe["checkpoints"] = {"every": 10}
        recipe["sharding"]["max_restarts"] = 1
        first, second = two()
        wait_for(lambda: updates(tmp_path) >= 2)
        os.kill(children(first)[0], signal.SIGKILL)
        said = [process.communicate(timeout=240)[1] for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0), said
        run = tmp_path / "runs" / "r"
        assert_same(run, undisturbed)
        assert [one["event"] for one in events(run) if one["event"] in ("started", "restarted", "resumed")] == [
            "started",
            "restarted",
            "resumed",
        ]
        assert "process 1 of 2 was killed by SIGKILL" in said[0]
        assert "process 1 of 2, on another node, was killed by SIGKILL" in said[1]

    def test_an_exception_on_one_ends_both(self, tmp_path: Path, recipe: dict[str, Any], two: Any) -> None:
        recipe["run"]["max_steps"] = 5000
        both = two(**sabotage(tmp_path, "raise RuntimeError('a cosmic ray')"))
        ranks = [wait_for(lambda one=one: children(one))[0] for one in both]
        wait_for((tmp_path / "sabotage" / "done").exists)
        begun = time.monotonic()
        said = [process.communicate(timeout=30)[1] for process in both]
        assert time.monotonic() - begun < 15
        assert [process.returncode for process in both] == [1, 1] and not alive(ranks)
        assert "a cosmic ray\n    in process 2 of 2, on another node" in said[0]
        assert "a cosmic ray\n    in process 2 of 2\n" in said[1]

    def test_sigterm_to_one_stops_both_with_a_checkpoint(
        self, tmp_path: Path, recipe: dict[str, Any], two: Any
    ) -> None:
        recipe["run"]["max_steps"] = 5000
        both = two()
        wait_for(lambda: updates(tmp_path) >= 2)
        both[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in both]
        assert [process.returncode for process in both] == [143, 143], said
        assert list((tmp_path / "runs" / "r" / "checkpoints").glob("checkpoint-*"))

    def test_a_launcher_that_is_killed_ends_the_other(self, tmp_path: Path, recipe: dict[str, Any], two: Any) -> None:
        recipe["run"]["max_steps"] = 5000
        first, second = two()
        wait_for(lambda: updates(tmp_path) >= 2)
        ranks = [*children(first), *children(second)]
        first.kill()
        _, said = second.communicate(timeout=60)
        assert second.returncode == 1 and "node 0 does not answer" in said, said
        wait_for(lambda: not alive(ranks), 10)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "2"], "each must be told which it is"),
        (["--nodes", "2", "--node-rank", "0"], "each must be told which it is"),
        (["--nodes", "2", "--rendezvous", "a:1"], "each must be told which it is"),
        (["--node-rank", "0"], "--node-rank is for a run on several nodes"),
        (["--rendezvous", "a:1"], "--rendezvous is for a run on several nodes"),
        (["--nodes", "2", "--node-rank", "2", "--rendezvous", "a:1"], "--node-rank 2 is out of range for 2 nodes"),
        (["--nodes", "2", "--node-rank", "0", "--rendezvous", "a"], "'a' is not of the form HOST:PORT"),
        (["--nodes", "2", "--node-rank", "0", "--rendezvous", "a:x"], "'a:x' is not of the form HOST:PORT"),
    ],
)
def test_what_does_not_place_the_machine(
    tmp_path: Path,
    recipe: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    write_recipe: Any,
    words: list[str],
    said: str,
) -> None:
    assert main(["run", str(write_recipe(recipe)), *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown and len(shown.splitlines()) == 2  # with what to type next


def test_three_nodes_for_two_processes(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], write_recipe: Any
) -> None:
    assert main(["run", str(write_recipe(recipe)), "--nodes", "3"]) == 3
    assert "do not spread evenly over 3 nodes" in capsys.readouterr().err


def test_another_launcher_has_placed_it(
    recipe: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    write_recipe: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["--nodes", "2", "--node-rank", "0", "--rendezvous", "a:1"]
    assert main(["run", str(write_recipe(recipe)), *words]) == 2
    assert "another launcher has started this process" in capsys.readouterr().err
