"""One run, killed again and again at random moments: what is left can always be resumed, and ends as if undisturbed.

Three kills in every run of the tests; `FTTOOL_KILLS=20 pytest tests/sharding/test_killing.py` makes it twenty.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from fttool.rundir import checkpoints

from .conftest import KILLS, UPDATES
from .watching import assert_same, children, dist, events, updates, wait_for

pytestmark = dist

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def test_a_run_that_is_killed_at_random_ends_like_one_that_is_not(
    tmp_path: Path, recipe: dict[str, Any], started: Any, undisturbed: Path
) -> None:
    chance = random.Random(20)
    recipe["run"]["max_steps"] = UPDATES
    recipe["checkpoints"] = {"every": 2}
    run = tmp_path / "runs" / "r"
    story: list[str] = []
    for number in range(KILLS):
        process = started(*(["--resume"] if run.exists() else []))
        moment, trains = wait_for_some_moment(chance, run)
        victim, sent = chance.choice(["launcher", 0, 1]), chance.choice(SIGNALS)
        ranks = children(process)
        if victim != "launcher" and len(ranks) < 2:
            victim = "launcher"
        os.kill(process.pid if victim == "launcher" else ranks[int(victim)], sent)
        _, said = process.communicate(timeout=60)
        story.append(f"{number}: {victim}, {sent.name}, {moment}: {process.returncode}")
        print(story[-1])
        expected = {128 + sent if sent != signal.SIGKILL else -sent if victim == "launcher" else 1}
        if not trains:  # it may not listen to signals yet
            expected |= {-sent} if victim == "launcher" else {1}
        assert process.returncode in expected, (story, said)
        wait_for(lambda: not processes_of(tmp_path), 10)
        for folder in (run / "checkpoints").glob("checkpoint-*"):
            whole = checkpoints.intact(folder.parent, int(folder.name.rpartition("-")[2]))
            assert isinstance(whole, checkpoints.Checkpoint), (story, whole)
    last = started("--resume")
    _, said = last.communicate(timeout=240)
    assert last.returncode == 0, (story, said)
    assert_same(run, undisturbed)


def wait_for_some_moment(chance: random.Random, run: Path) -> tuple[str, bool]:
    """Mostly between two updates, sometimes while the processes start; returns which it was, and whether they train."""
    if chance.random() < 0.3:
        seconds = chance.uniform(0.5, 10)
        time.sleep(seconds)
        return f"after {seconds:.1f} s", False
    before = begun(run)
    wait_for(lambda: begun(run) > before)
    done, more = updates(run.parent.parent), chance.randint(0, 3)
    wait_for(lambda: updates(run.parent.parent) >= done + more)
    time.sleep(chance.uniform(0, 0.3))
    return f"{more} updates after update {done}", more > 0


def begun(run: Path) -> int:
    """How often its loop has been begun."""
    if not (run / "events.jsonl").exists():
        return 0
    return sum(one["event"] in ("started", "resumed") for one in events(run))


def processes_of(folder: Path) -> list[int]:
    """All that were started with the recipe of this test."""
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder / "r.toml").encode() in words:
            found.append(int(place.name))
    return found
