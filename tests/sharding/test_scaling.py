"""Loss scaling in two processes: what overflows in one of them is skipped in both, on the one clock of the run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from safetensors.torch import load_file
from torch.testing import assert_close

from fttool_plugins.schedule.wsd import wsd

from .. import scaled
from .matrix import SHARDINGS, Outcome, base, write_rows

pytestmark = [pytest.mark.dist, pytest.mark.slow]

PLANTED = (2, 5, 6, 12)


def run_all(folder: Path, processes: int, recipes: dict[str, dict[str, Any]]) -> dict[str, Path]:
    """Run recipes in so many processes, one after the other; the run directories by name."""
    folder.mkdir()
    for name, recipe in recipes.items():
        recipe["run"] |= {"name": name, "output": str(folder / "runs")}
        (folder / f"{name}.toml").write_text(tomli_w.dumps(recipe))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, str(scaled.__file__), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: folder / "runs" / name for name in recipes}


def test_what_overflows_in_one_process_is_skipped_in_both(tmp_path: Path, fttool_tiny_model: Path) -> None:
    rows = [write_rows(tmp_path / "rows.jsonl", 220), write_rows(tmp_path / "general.jsonl", 12, first=100)]
    more = [{"name": "l2-init", "strength": 0.1}, {"name": "ema", "decay": 0.8}]

    def recipe(optimizer: str, planted: dict[str, Any], sharding: dict[str, Any], total: int = 14) -> dict[str, Any]:
        made = {**base(fttool_tiny_model, *rows), "precision": {"name": "acme.half"}, "sharding": sharding}
        made["run"] = {"max_steps": total, "micro_batch": 2, "global_batch": 4, "log_every": 1}
        made["schedule"] = {"name": "wsd", "warmup": 3, "decay": 4}
        made["optimizer"] = {"name": optimizer, "lr": 1e-3}
        made["regularizers"] = [{"name": "acme.overflow", **planted}, *(more if optimizer == "adamw" else [])]
        return made

    two, one = {"name": "ddp", "processes": 2, "timeout": 60}, {"name": "none"}
    in_second = {"updates": PLANTED, "rank": 1}
    endless = {"updates": tuple(range(1, 41)), "rank": 1, "endless": True}
    names = ("adamw", "sgd")
    recipes = {name: recipe(name, in_second, two) for name in names}
    several = run_all(tmp_path / "two", 2, recipes | {"z": recipe("sgd", endless, two, 40)})
    in_both = {"updates": PLANTED, "pieces": 2}
    alone = run_all(tmp_path / "one", 1, {name: recipe(name, in_both, one) for name in names})
    for name in names:
        found = [outcome.metrics for outcome in (Outcome(several[name]), Outcome(alone[name]))]
        for ours, theirs in zip(*found, strict=True):
            overflowed = {"loss", "grad_norm"} if ours["step"] in PLANTED else set()
            kept = ours.keys() - overflowed
            assert {key: ours[key] for key in kept} == pytest.approx({key: theirs[key] for key in kept}, rel=1e-3)
        factors = [wsd(update, warmup=3, decay=4, total=14, floor=0, shape="1-sqrt") for update in range(14)]
        assert [line["lr"] for line in found[0] if "loss" in line] == pytest.approx([1e-3 * one for one in factors])
        assert json.loads((several[name] / "summary.json").read_text())["skipped_updates"] == len(PLANTED)
        ours, theirs = (load_file(run[name] / "model" / "model.safetensors") for run in (several, alone))
        for key, values in ours.items():
            assert_close(values, theirs[key], rtol=0, atol=1e-4)
    ended = json.loads((several["z"] / "summary.json").read_text())
    assert (ended["status"], ended["skipped_updates"]) == ("diverged", 20) and not (several["z"] / "model").exists()


def test_it_is_skipped_where_each_process_holds_a_share(tmp_path: Path, fttool_tiny_model: Path) -> None:
    """FSDP's scaler looks at shares, of which one process's alone may overflow; DeepSpeed's engines have their own."""
    rows = [write_rows(tmp_path / "rows.jsonl", 60), write_rows(tmp_path / "general.jsonl", 6, first=100)]

    def recipe(sharding: dict[str, Any], planted: dict[str, Any]) -> dict[str, Any]:
        made = {**base(fttool_tiny_model, *rows), "precision": {"name": "acme.half"}, "sharding": sharding}
        made["run"] = {"max_steps": 8, "micro_batch": 2, "global_batch": 4, "log_every": 1}
        made["optimizer"] = {"name": "sgd", "lr": 0.1}
        return made | {"regularizers": [{"name": "acme.overflow", "updates": (2, 5), **planted}]}

    several = run_all(
        tmp_path / "two",
        2,
        {
            name: recipe({**SHARDINGS[name], "timeout": 60}, {"rank": 1, "of_logits": name == "zero-3"})
            for name in ("fsdp", "zero-2", "zero-3")
        },
    )
    [alone] = run_all(tmp_path / "one", 1, {"alone": recipe({"name": "none"}, {"pieces": 2})}).values()
    expected, first = (
        load_file(alone / "model" / "model.safetensors"),
        load_file(fttool_tiny_model / "model.safetensors"),
    )
    learned = max(float((values - first[key]).abs().max()) for key, values in expected.items())
    for name, run in several.items():
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["status"], summary["skipped_updates"]) == ("finished", 2), name
        assert [line["step"] for line in Outcome(run).metrics if line.get("grad_norm") == "inf"] == [2, 5], name
        for key, values in load_file(run / "model" / "model.safetensors").items():
            assert_close(values, expected[key], rtol=0, atol=learned / 100)
