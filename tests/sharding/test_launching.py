"""`fttool run` starts the processes itself, speaks for them, and leaves none behind."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w

from fttool.cli import main
from fttool.testing import run_recipe

from .conftest import UPDATES
from .watching import alive, assert_same, children, dist, events, free_port, timeless, updates, wait_for


class TestSeveralProcesses:
    pytestmark = dist

    def test_sigterm_saves_and_a_resumed_run_is_bitwise_equal(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any, undisturbed: Path
    ) -> None:
        recipe["run"]["max_steps"] = UPDATES
        first = started()
        wait_for(lambda: updates(tmp_path) >= 3)
        ranks = children(first)
        assert len(ranks) == 2
        ours = [first.pid, *ranks]  # on one machine nothing listens but on the loopback interface
        opened = [one for number in ours for one in psutil.Process(number).net_connections() if one.status == "LISTEN"]
        assert opened and {one.laddr.ip for one in opened} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 143, said
        assert not alive(ranks)
        runs = tmp_path / "runs"
        assert json.loads((runs / "r" / "summary.json").read_text())["status"] == "interrupted"
        assert 3 <= updates(tmp_path) < UPDATES
        second = started("--resume")
        assert second.wait(240) == 0, second.stderr.read()
        assert_same(runs / "r", undisturbed)

    def test_sighup_outside_of_the_loop_leaves_a_word_and_a_summary(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any
    ) -> None:
        recipe["run"]["max_steps"] = 2
        recipe["data"]["eval_share"] = 0.2
        recipe["evaluation"] = {"samples": 4, "sample_tokens": 200}  # which takes seconds, before and after the loop
        process = started()
        heard: list[str] = []
        for line in process.stderr:
            heard.append(line)
            if "the sample prompts again" in line:
                break
        process.send_signal(signal.SIGHUP)
        _, rest = process.communicate(timeout=60)
        said = "".join([*heard, rest])
        assert process.returncode == 129, said
        assert "stopped by SIGHUP" in said
        run = tmp_path / "runs" / "r"
        assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
        assert events(run)[-1]["event"] == "ended" and not (run / "model").exists()

    def test_another_number_of_processes_goes_on(self, tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
        """From one to two and back, in the middle of an epoch, with the losses of a run that was never stopped."""
        recipe["checkpoints"] = {"every": 3, "keep": 9}
        alone = {**recipe, "sharding": {"name": "none"}}
        del alone["run"]["output"], alone["run"]["name"]
        run = run_recipe(alone, tmp_path).run_dir
        expected = timeless(run / "metrics.jsonl")
        drop(run, 6, 8)
        recipe["run"] |= {"output": str(run.parent), "name": run.name}
        two = started("--resume")
        assert two.wait(240) == 0, two.stderr.read()
        assert_near(timeless(run / "metrics.jsonl"), expected)
        drop(run, 8)
        assert run_recipe(alone, tmp_path, resume=True).exit_code == 0
        assert_near(timeless(run / "metrics.jsonl"), expected)
        changed = [one for one in events(run) if one["event"] == "processes_changed"]
        assert len(changed) == 2
        other = started("--resume", "--set", "run.global_batch=16")
        assert other.wait(60) == 2 and "run.global_batch was 8, is 16" in other.stderr.read()

    def test_shares_of_the_weights_are_cut_anew_for_more_processes(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any
    ) -> None:
        recipe["checkpoints"] = {"every": 3, "keep": 9}
        recipe["sharding"] |= {"name": "fsdp"}
        two = started()
        assert two.wait(240) == 0, two.stderr.read()
        run = tmp_path / "runs" / "r"
        expected = timeless(run / "metrics.jsonl")
        drop(run, 6, 8)
        four = started("--resume", "--set", "sharding.processes=4")
        assert four.wait(240) == 0, four.stderr.read()
        assert_near(timeless(run / "metrics.jsonl"), expected)
        assert "processes_changed" in [one["event"] for one in events(run)]

    def test_a_checkpoint_that_the_sharding_cannot_read_is_refused(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any
    ) -> None:
        recipe["run"]["max_steps"] = 3
        recipe["checkpoints"] = {"every": 2, "keep": 9}
        whole = started("--set", 'sharding={name="zero",stage=2,processes=2}')
        assert whole.wait(240) == 0, whole.stderr.read()
        drop(tmp_path / "runs" / "r", 3)
        more = started("--resume", "--set", 'sharding={name="zero",stage=2,processes=4}')
        _, words = more.communicate(timeout=240)
        assert more.returncode == 2
        assert words.count("2 processes saved checkpoint-2, and 'zero' cannot read it in 4") == 1
        del recipe["run"]["output"], recipe["run"]["name"]
        plain = {**recipe, "sharding": {"name": "none"}}
        again = run_recipe(plain, tmp_path, overrides=["run.name=r"], resume=True)
        assert again.exit_code == 2
        assert "checkpoint-2 was saved under another kind of sharding than 'none'" in str(again.error)

    def test_auto_shards_where_memory_is_short_and_says_why(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any
    ) -> None:
        recipe["run"]["max_steps"] = 3
        recipe["checkpoints"] = {"every": 2, "keep": 9}
        recipe["sharding"] = {"name": "auto", "processes": 2, "memory_gb": 0.0001}
        short = started()
        _, said = short.communicate(timeout=240)
        assert short.returncode == 0, said
        summary = json.loads((tmp_path / "runs" / "r" / "summary.json").read_text())
        assert summary["sharding"]["reason"].startswith("fsdp (cpu_offload = true), ")
        assert f"sharding: {summary['sharding']['reason']}" in said
        held = sum(rank["parameter_bytes"] for rank in summary["sharding"]["ranks"])
        assert held == pytest.approx(4 * summary["parameters"], rel=0.01)
        drop(tmp_path / "runs" / "r", 3)
        again = started("--resume", "--set", "sharding.memory_gb=64")
        _, said = again.communicate(timeout=240)
        assert again.returncode == 2 and "sharding: ddp, " in said
        assert (
            said.count("checkpoint-2 was saved under another kind of sharding than what 'auto' takes now (ddp, ") == 1
        )

    def test_a_process_that_crashes_in_native_code_ends_all_and_says_where_it_was(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any
    ) -> None:
        recipe["run"]["max_steps"] = 5000
        process = started()
        wait_for(lambda: updates(tmp_path) >= 2)
        ranks = children(process)
        os.kill(ranks[1], signal.SIGSEGV)
        assert process.wait(30) == 1
        assert not alive(ranks)
        said = process.stderr.read()
        assert "process 2 of 2 was killed by SIGSEGV" in said and "in logs/rank-1.log" in said
        assert "Traceback" not in said and "gloo" not in said
        log = (tmp_path / "runs" / "r" / "logs" / "rank-1.log").read_text()
        assert "Segmentation fault" in log and "trainer.py" in log

    @pytest.mark.parametrize("done", [0, 1])
    def test_a_killed_launcher_leaves_no_orphan(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any, done: int
    ) -> None:
        """Even where they have only just been started, and have not yet seen who started them."""
        recipe["run"]["max_steps"] = 5000
        process = started()
        ranks = wait_for(lambda: len(found := children(process)) == 2 and found)
        wait_for(lambda: updates(tmp_path) >= done)
        process.kill()
        wait_for(lambda: not alive(ranks), 30)

    def test_a_recipe_may_be_called_like_an_option_and_a_file_here_like_a_library(self, undisturbed: Path) -> None:
        folder = undisturbed.parents[1]
        assert {"-r.toml", "trl.py"} <= {file.name for file in folder.iterdir()}
        assert json.loads((undisturbed / "summary.json").read_text())["status"] == "finished"

    def test_deepspeeds_own_launcher_is_joined(self, tmp_path: Path, recipe: dict[str, Any]) -> None:
        (tmp_path / "r.toml").write_text(tomli_w.dumps(recipe))
        hosts = base64.urlsafe_b64encode(json.dumps({"localhost": [0, 1]}).encode()).decode()
        launcher = [sys.executable, "-m", "deepspeed.launcher.launch", f"--world_info={hosts}", "--node_rank=0"]
        place = ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
        words = [*launcher, *place, "--module", "fttool", "run", str(tmp_path / "r.toml")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "runs" / "r" / "summary.json").read_text())
        assert summary["status"] == "finished" and len(summary["sharding"]["ranks"]) == 2

    def test_what_is_wrong_is_said_once(self, recipe: dict[str, Any], started: Any) -> None:
        recipe["model"]["source"] = "./no-such-model"
        process = started()
        _, said = process.communicate(timeout=120)
        assert process.returncode == 5, said
        assert said.count("no-such-model") == 1


def drop(run: Path, *steps: int) -> None:
    """Take away the checkpoints of these updates."""
    for step in steps:
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{step}")


def assert_near(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("sharding", [{"name": "fsdp"}, {"name": "zero", "stage": 3}])
def test_a_dry_run_needs_no_other_process(
    recipe: dict[str, Any], write_recipe: Any, capsys: pytest.CaptureFixture[str], sharding: Any
) -> None:
    recipe["sharding"] = {**sharding, "processes": 2}
    assert main(["run", str(write_recipe(recipe)), "--dry-run"]) == 0
    assert "\nprocesses = 2\n" in capsys.readouterr().out
