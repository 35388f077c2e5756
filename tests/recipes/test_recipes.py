"""The recipes that come with fttool do what they say, in a few updates."""

import json
from pathlib import Path

import pytest
import tomli

from fttool.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_quickstart_runs_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(RECIPES / "quickstart.toml"), "--set", f"run.output={tmp_path}", "--set", "run.max_steps=12"]
    assert main(["run", *words]) == 0
    shown = capsys.readouterr().out
    summary = json.loads((tmp_path / "quickstart" / "summary.json").read_text())
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"] < 5
    assert len(summary["samples"]) == 3
    for part in ("→", "tokens/s", "before", "after", str(tmp_path / "quickstart" / "model"), "fttool generate"):
        assert part in shown
    assert main(["generate", str(tmp_path / "quickstart"), "What does math.sqrt do?", "--max-tokens", "20"]) == 0
    assert capsys.readouterr().out.strip()


def test_the_built_in_model_is_small_and_knows_something() -> None:
    from importlib.resources import files

    folder = Path(str(files("fttool_plugins.model"))) / "tiny_chat"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]


def test_the_classic_says_what_a_good_full_fine_tune_is() -> None:
    recipe = tomli.loads((RECIPES / "llama-3.1-8b-sft.toml").read_text())
    assert recipe["optimizer"] == {"name": "adamw", "lr": 2e-5, "weight_decay": 0.01, "max_grad_norm": 1.0}
    assert recipe["schedule"] == {"name": "cosine", "warmup": 0.1}
    run = recipe["run"]
    assert (run["epochs"], run["micro_batch"], run["global_batch"], run["workers"]) == (3, 2, 16, 4)
    assert recipe["batching"]["max_length"] == 4096
    assert recipe["model"]["gradient_checkpointing"] and recipe["model"]["attention"] == "flash_attention_2"
    assert recipe["precision"]["name"] == "bf16"
    assert recipe["evaluation"]["every"] == recipe["checkpoints"]["every"] == 200
    assert recipe["evaluation"]["best"] == "loss"
