"""A run whose sharding is not on ends: accelerate runs plain DDP instead of FSDP on a CPU, and says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fttool.api import RecipeError, ShardingContext
from fttool_plugins.sharding.ddp import DDP
from fttool_plugins.sharding.fsdp import FSDP
from fttool_plugins.sharding.zero import ZeRO

from .sabotage import sabotage
from .watching import dist

IGNORED = """
from fttool_plugins.sharding import fsdp

fsdp._engage = lambda trainer, computed: None
"""


class TestSeveralProcesses:
    pytestmark = dist

    def test_what_accelerate_ignores_is_found(self, tmp_path: Path, recipe: dict[str, Any], started: Any) -> None:
        (tmp_path / "place").mkdir()
        (tmp_path / "place" / "sitecustomize.py").write_text(IGNORED)
        recipe["sharding"]["name"] = "fsdp"
        process = started(PYTHONPATH=str(tmp_path / "place"))
        _, said = process.communicate(timeout=120)
        assert process.returncode == 3, said
        assert said.count("sharding 'fsdp' is not on: 'model.embed_tokens.weight' is not sharded") == 1
        summary = json.loads((tmp_path / "runs" / "r" / "summary.json").read_text())
        assert summary["status"] == "failed" and summary["steps"] == 1

    def test_zero_3_never_has_the_whole_model_on_a_device(
        self, tmp_path: Path, recipe: dict[str, Any], started: Any
    ) -> None:
        """DeepSpeed moves to it what it finds whole; in shares each parameter has come there by itself."""
        recipe["sharding"] |= {"name": "zero", "stage": 3}
        deed = "assert all(hasattr(p, 'ds_tensor') and not p.numel() for p in arguments[1].parameters())"
        engine = ("deepspeed.runtime.engine", "DeepSpeedEngine", "_configure_distributed_model")
        process = started(**sabotage(tmp_path, deed, update=1, at=engine))
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert (tmp_path / "sabotage" / "done").exists()


@pytest.mark.parametrize(
    ("sharding", "said"),
    [
        (DDP(processes=2), "'ddp' is not on: the model is in a Linear"),
        (FSDP(processes=2), "'fsdp' is not on: 'weight' is not sharded"),
        (ZeRO(processes=2, stage=3), "'zero' is not on: DeepSpeed runs stage 0, not 3"),
    ],
)
def test_a_plain_model_is_no_proof(sharding: Any, said: str) -> None:
    model = torch.nn.Linear(2, 2)
    trainer = SimpleNamespace(model=model, model_wrapped=model, is_deepspeed_enabled=False)
    plan = sharding.build(ShardingContext(device=torch.device("cpu")))
    with pytest.raises(RecipeError, match=said):
        plan.prove(trainer)
