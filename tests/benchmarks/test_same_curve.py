"""On identical batches fttool and trl have one loss curve: nothing that fttool adds changes the training."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from fttool.api import Batches, Batching, BatchingContext, Encoded, RowGroup, hookimpl
from fttool.testing import plugins, run_recipe
from fttool_plugins.batching.bucketed import Bucketed

UPDATES, MICRO_BATCH, ACCUMULATION = 18, 2, 2
LR, WARMUP, MAX_GRAD_NORM = 2e-3, 3, 1.7
"""The norm is reached in some updates and not in others, so that clipping counts."""

met: list[Encoded] = []
"""The rows that fttool trained on, in order."""


class Recording(Batching):
    """`bucketed`, noting what it hands out."""

    name: Literal["acme.recording"] = "acme.recording"

    def build(self, ctx: BatchingContext) -> Batches:
        """Yield the plan and a collator that keeps the rows."""
        return RecordingBatches(Bucketed().build(ctx))


class RecordingBatches:
    def __init__(self, inner: Batches) -> None:
        self.inner = inner

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        return self.inner.plan(order, epoch)

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, torch.Tensor]:
        met.extend(row for (row,) in sequences)
        return self.inner.collate(sequences)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Conversations whose lengths and learned shares differ."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(24):
            turns = [
                {"role": "user", "content": "Why? " * (1 + number * 5 % 7)},
                {"role": "assistant", "content": f"{number}, since " + "it is so " * (number * 11 % 17) + "."},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def by_trl(folder: Path, model: str) -> SFTTrainer:
    """trl's own trainer over the rows that fttool met, in their order."""
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=UPDATES,
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=ACCUMULATION,
            learning_rate=LR,
            lr_scheduler_type="cosine",
            warmup_steps=WARMUP,
            max_grad_norm=MAX_GRAD_NORM,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            bf16=False,
            activation_checkpointing=False,
            logging_steps=1,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict(
            {"input_ids": [row.input_ids for row in met], "labels": [row.labels for row in met]}
        ),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.train()
    return trainer


def test_same_losses_rates_norms_and_weights_as_trl(tmp_path: Path, fttool_recipe: dict[str, Any], rows: Path) -> None:
    met.clear()
    recipe = fttool_recipe
    recipe["run"] = {
        "max_steps": UPDATES,
        "micro_batch": MICRO_BATCH,
        "global_batch": MICRO_BATCH * ACCUMULATION,
        "log_every": 1,
    }
    recipe["data"] = {"train": [{"path": str(rows), "format": "messages"}]}
    recipe["batching"] = "acme.recording"
    recipe["optimizer"] = {"name": "adamw", "lr": LR, "max_grad_norm": MAX_GRAD_NORM}
    recipe["schedule"] = {"name": "cosine", "warmup": WARMUP}
    acme = SimpleNamespace(fttool_strategies=hookimpl(lambda: [Recording], specname="fttool_strategies"))
    run = run_recipe(recipe, tmp_path, plugins=plugins(acme=acme))
    assert run.error is None
    del met[: -UPDATES * MICRO_BATCH * ACCUMULATION]  # what the proof before the first update has looked at
    assert len(met) == UPDATES * MICRO_BATCH * ACCUMULATION

    trainer = by_trl(tmp_path / "trl", recipe["model"]["source"])

    ours = [line for line in run.metrics if "loss" in line]
    theirs = [line for line in trainer.state.log_history if "loss" in line]
    assert len(ours) == len(theirs) == UPDATES
    norms = [line["grad_norm"] for line in ours]
    assert min(norms) < MAX_GRAD_NORM < max(norms)
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=0, abs=1e-5)
    assert [line["lr"] for line in ours] == pytest.approx([line["learning_rate"] for line in theirs], rel=1e-12)
    assert norms == pytest.approx([line["grad_norm"] for line in theirs], rel=1e-4)
    assert ours[-1]["loss"] < ours[0]["loss"]

    weights = load_file(run.run_dir / "model" / "model.safetensors")
    for name, tensor in trainer.model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-5)
    state = json.loads((run.run_dir / "checkpoints" / f"checkpoint-{UPDATES}" / "trainer_state.json").read_text())
    assert state["total_flos"] == trainer.state.total_flos
