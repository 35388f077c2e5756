"""Loss scaling in two processes: what overflows in one of them is skipped in both, on the one clock of the run."""

from __future__ import annotations

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

pytestmark = [pytest.mark.dist, pytest.mark.full]

PLANTED = (2, 5, 6, 12)
OPTIMIZERS = ("adamw", "sgd")
ENGINES = ("fsdp", "zero-2", "zero-3")


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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The runs in two processes, of which the second overflows, and those in one; ZeRO comes last."""
    folder = tmp_path_factory.mktemp("scaling")
    rows = [write_rows(folder / "rows.jsonl", 220), write_rows(folder / "general.jsonl", 12, first=100)]
    more = [{"name": "l2-init", "strength": 0.1}, {"name": "ema", "decay": 0.8}]

    def recipe(sharding: dict[str, Any], total: int, **planted: Any) -> dict[str, Any]:
        made = {**base(fttool_tiny_model, *rows), "precision": {"name": "acme.half"}, "sharding": sharding}
        made["run"] = {"max_steps": total, "micro_batch": 2, "global_batch": 4, "log_every": 1}
        return made | {"regularizers": [{"name": "acme.overflow", **planted}]}

    def long(optimizer: str, sharding: dict[str, Any], total: int = 14, **planted: Any) -> dict[str, Any]:
        made = recipe(sharding, total, **planted)
        made["schedule"] = {"name": "wsd", "warmup": 3, "decay": 4}
        made["optimizer"] = {"name": optimizer, "lr": 1e-3}
        made["regularizers"] += more if optimizer == "adamw" else []
        return made

    def short(sharding: dict[str, Any], **planted: Any) -> dict[str, Any]:
        return recipe(sharding, 8, updates=(2, 5), **planted) | {"optimizer": {"name": "sgd", "lr": 0.1}}

    two, one = {"name": "ddp", "processes": 2, "timeout": 60}, {"name": "none"}
    several = {name: long(name, two, updates=PLANTED, rank=1) for name in OPTIMIZERS}
    several["z"] = long("sgd", two, 40, updates=tuple(range(1, 41)), rank=1, endless=True)
    for name in ENGINES:
        several[name] = short({**SHARDINGS[name], "timeout": 60}, rank=1, of_logits=name == "zero-3")
    alone = {name: long(name, one, updates=PLANTED, pieces=2) for name in OPTIMIZERS}
    alone["short"] = short(one, pieces=2)
    return run_all(folder / "two", 2, several), run_all(folder / "one", 1, alone)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_overflows_in_one_process_is_skipped_in_both(made: Any, name: str) -> None:
    several, alone = (runs[name] for runs in made)
    found = [outcome.metrics for outcome in (Outcome(several), Outcome(alone))]
    for ours, theirs in zip(*found, strict=True):
        overflowed = {"loss", "grad_norm", "acme.overflow"} if ours["step"] in PLANTED else set()
        kept = ours.keys() - overflowed
        assert {key: ours[key] for key in kept} == pytest.approx({key: theirs[key] for key in kept}, rel=1e-3)
    factors = [wsd(update, warmup=3, decay=4, total=14, floor=0, shape="1-sqrt") for update in range(14)]
    assert [line["lr"] for line in found[0] if "loss" in line] == pytest.approx([1e-3 * one for one in factors])
    assert Outcome(several).summary["skipped_updates"] == len(PLANTED)
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (several, alone))
    for key, values in ours.items():
        assert_close(values, theirs[key], rtol=0, atol=1e-4)


def test_where_all_overflows_the_run_ends(made: Any) -> None:
    ended = Outcome(made[0]["z"])
    assert (ended.summary["status"], ended.summary["skipped_updates"]) == ("diverged", 20)
    assert not (ended.run_dir / "model").exists()


@pytest.mark.parametrize("name", ENGINES)
def test_it_is_skipped_where_each_process_holds_a_share(made: Any, fttool_tiny_model: Path, name: str) -> None:
    """FSDP's scaler looks at shares, of which one process's alone may overflow; DeepSpeed's engines have their own."""
    several, alone = made[0][name], made[1]["short"]
    expected, first = (load_file(one / "model.safetensors") for one in (alone / "model", fttool_tiny_model))
    learned = max(float((values - first[key]).abs().max()) for key, values in expected.items())
    summary = Outcome(several).summary
    assert (summary["status"], summary["skipped_updates"]) == ("finished", 2)
    assert [line["step"] for line in Outcome(several).metrics if line.get("grad_norm") == "inf"] == [2, 5]
    for key, values in load_file(several / "model" / "model.safetensors").items():
        assert_close(values, expected[key], rtol=0, atol=learned / 100)
