"""The yardstick of a run in several processes: a script for torchrun around transformers' own Trainer.

    torchrun --nproc-per-node 2 plain_trainer.py FOLDER fsdp first

It is what one writes who has read the Trainer's page on `ddp`, `fsdp` or `zero` (stage 2), made as quick as its
arguments allow: rows are tensors of one length without a mask, DistributedDataParallel need not look for parameters
without a gradient, nothing is logged or saved. `FOLDER/plain.json` says what to train. Updates are made in turns
with another run (`turns.py`); the first process writes their seconds and losses to `FOLDER/plain-ENGINE.json`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import deepspeed
import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from turns import Turns

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # for inference; it would be compiled for a minute

ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {"ddp_find_unused_parameters": False},
    "fsdp": {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"],
            "reshard_after_forward": True,
        },
    },
    "zero": {
        "deepspeed": {
            "zero_optimization": {"stage": 2},
            "zero_allow_untested_optimizer": True,
            "gradient_clipping": "auto",
            "gradient_accumulation_steps": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "train_batch_size": "auto",
            "steps_per_print": 10**9,
        }
    },
}
"""Arguments of the Trainer by engine."""


class Timed(Trainer):
    """A Trainer that keeps the losses of its micro-batches, and shards on CPUs too."""

    def __init__(self, **arguments: Any) -> None:
        self.losses: list[torch.Tensor] = []
        super().__init__(**arguments)

    def create_accelerator_and_postprocess(self) -> None:
        """Tell accelerate to shard: without a GPU it would run DistributedDataParallel, and not say so."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args is None:
            return
        for state in (AcceleratorState, PartialState):
            state._shared_state["distributed_type"] = DistributedType.FSDP
        AcceleratorState._shared_state["fsdp_plugin"] = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        self.is_fsdp_enabled = True

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Keep the loss, which is a share of that of the update."""
        loss = super().training_step(*arguments, **named)
        self.losses.append(loss)
        return loss


class Watch(TrainerCallback):
    """Sees to it that the engine is on."""

    trainer: Trainer

    def __init__(self, engine: str) -> None:
        self.engine = engine

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        model: Any = self.trainer.model_wrapped
        if self.engine == "ddp":
            assert isinstance(model, DistributedDataParallel)
        elif self.engine == "fsdp":
            assert all(isinstance(p, DTensor) for p in model.parameters())
        else:
            assert model.zero_optimization_stage() == 2


def main(folder: Path, engine: str, first: bool) -> None:
    job = json.loads((folder / "plain.json").read_text())
    watch, turns = Watch(engine), Turns(folder, "plain", first=first)
    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(job["model"]),
        args=TrainingArguments(
            output_dir=str(folder / "plain"),
            max_steps=job["updates"],
            per_device_train_batch_size=job["micro_batch"],
            gradient_accumulation_steps=job["accumulation"],
            learning_rate=job["lr"],
            lr_scheduler_type="cosine",
            warmup_steps=job["warmup"],
            seed=job["seed"],
            use_cpu=True,
            ddp_backend="gloo",
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **ENGINES[engine],
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in map(torch.tensor, job["rows"])],
        data_collator=default_data_collator,
        callbacks=[watch, turns],
    )
    trainer.remove_callback(PrinterCallback)
    watch.trainer = trainer
    trainer.train()
    losses = torch.stack(trainer.losses).view(job["updates"], job["accumulation"]).sum(1)
    torch.distributed.all_reduce(losses)
    losses /= trainer.args.world_size
    if trainer.is_world_process_zero():
        found = {"seconds": turns.seconds, "losses": losses.tolist()}
        (folder / f"plain-{engine}.json").write_text(json.dumps(found))
    torch.distributed.barrier()  # a launcher ends the others as soon as one has left
    os._exit(0)  # Python's own way out is now and again cut short by a thread of torch


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "first")
