"""The three that are compared: fttool, trl's SFTTrainer, and the hand-written loop, each timed by the same clock.

The clock is read when an update has ended, so what lies between two readings is everything that a run costs per update:
loading, collating, both passes, clipping, the step, and whatever the trainer does besides. The first updates are left
out: they touch memory for the first time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hand_written
import torch
from workload import LEFT_OUT, LR, PAD_ID, SEED, WARMUP, Case, write_recipe

from fttool.contracts.rows import Encoded
from fttool.recipe.reading import load
from fttool.rundir.record import Record
from fttool.runs.opening import open_record
from fttool.runs.preparing import prepare_run
from fttool.runs.run import train
from fttool.runs.stages.loop import Prepared
from fttool.watch.screen import Screen
from fttool.watch.watch import Watch

Batches = list[list[list[Encoded]]]
"""Updates, micro-batches, rows."""


@dataclass
class Timed:
    """One run: when each update ended, and what was in it."""

    ends: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When each update ended: seconds on the wall clock, and seconds of processor time of this process."""
    slots: list[int] = field(default_factory=list[int])
    """Padded slots of each update: rows times the longest of their micro-batch."""
    tokens: list[int] = field(default_factory=list[int])
    """Real tokens of each update."""
    losses: list[float] = field(default_factory=list[float])
    """Loss of each update that was logged."""

    def tick(self) -> None:
        """An update has ended, on the GPU too."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append((time.perf_counter(), time.process_time()))

    @property
    def seconds(self) -> float:
        """Of the updates that count, on the wall clock."""
        return self.ends[-1][0] - self.ends[LEFT_OUT - 1][0]

    @property
    def processor_seconds(self) -> float:
        """Of the updates that count, on all cores together; other work on the machine hardly shows in it."""
        return self.ends[-1][1] - self.ends[LEFT_OUT - 1][1]

    @property
    def counted_slots(self) -> int:
        """Padded slots of the updates that count."""
        return sum(self.slots[LEFT_OUT:])

    @property
    def counted_tokens(self) -> int:
        """Real tokens of the updates that count."""
        return sum(self.tokens[LEFT_OUT:])

    def count(self, batches: Batches) -> None:
        """Note slots and tokens of every update."""
        for micro_batches in batches:
            lengths = [[len(row.input_ids) for row in rows] for rows in micro_batches]
            self.slots.append(sum(len(rows) * max(rows) for rows in lengths))
            self.tokens.append(sum(map(sum, lengths)))


class Clock(Screen):
    """A screen that shows nothing and notes when each update ends."""

    def __init__(self) -> None:
        self.timed = Timed()

    def step(self, step: int) -> None:
        """Read the clock."""
        self.timed.tick()


# -- fttool --------------------------------------------------------------------------------------------------------


def prepared_run(folder: Path, case: Case, name: str, **run: Any) -> tuple[Callable[[], Timed], Prepared]:
    """An fttool run up to its first update, and a function that does the rest; `run` overrides keys of `[run]`."""
    overrides = [f"run.{key}={value}" for key, value in run.items()]
    loaded = load(write_recipe(folder, case, name), overrides)
    clock, record = Clock(), Record.at(loaded, False)
    prepared = prepare_run(loaded, record.path, Watch(loaded, record, clock))

    def go() -> Timed:
        train(prepared, record, open_record(prepared, record, False, None))
        timed = clock.timed
        timed.count(planned(prepared, case))
        timed.losses = [line["loss"] for line in prepared.trainer.state.log_history if "loss" in line]
        return timed

    return go, prepared


def planned(prepared: Prepared, case: Case) -> Batches:
    """The batches that an fttool run meets, in its order."""
    job = prepared.trainer.job
    rows, sampler, updates = job.rows.train, job.batching.loader.batch_sampler, []
    per_epoch, epoch = prepared.length.steps_per_epoch, -1
    for update in range(case.updates):
        if update // per_epoch != epoch:
            epoch = update // per_epoch
            job.batching.loader.set_epoch(epoch)
            plan = list(sampler)
        start = update % per_epoch * case.accumulation
        micro_batches = plan[start : start + case.accumulation]
        updates.append([[rows[row] for (row,) in groups] for groups in micro_batches])
    return updates


# -- the hand-written loop -----------------------------------------------------------------------------------------


def by_hand(model_folder: Path, batches: Batches, *, device: str = "cpu", autocast: bool = False) -> Timed:
    """The plain loop over given batches; with `autocast` it computes in bf16 over the same weights."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder).to(device)
    timed = Timed()
    timed.count(batches)
    timed.losses = hand_written.train(
        model,
        [[[(row.input_ids, row.labels) for row in rows] for rows in micro_batches] for micro_batches in batches],
        pad_id=PAD_ID,
        lr=LR,
        warmup=WARMUP,
        updated=timed.tick,
        autocast=autocast,
    )
    return timed


# -- trl -----------------------------------------------------------------------------------------------------------


def by_trl(folder: Path, rows: Sequence[Encoded], case: Case, **options: Any) -> Timed:
    """`trl.SFTTrainer` over rows that are tokenized already; whatever `options` leave out has trl's default."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    timed = Timed()

    class Ends(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            timed.tick()

    class Counting(SFTTrainer):
        """Counts what is in an update; the trainer fetches an update's batches in this method anyway."""

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
            timed.slots.append(sum(batch["input_ids"].numel() for batch in batches))
            timed.tokens.append(sum(int(batch["attention_mask"].sum()) for batch in batches))
            return batches, items

    arguments: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "max_steps": case.updates,
        "per_device_train_batch_size": case.micro_batch,
        "gradient_accumulation_steps": case.accumulation,
        "learning_rate": LR,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARMUP,
        "seed": SEED,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(folder / case.model),
        args=SFTConfig(**{**arguments, **options}),
        train_dataset=Dataset.from_dict(
            {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}
        ),
        processing_class=AutoTokenizer.from_pretrained(folder / case.model),
        callbacks=[Ends()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    timed.losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return timed


FULL_PRECISION: dict[str, Any] = {"bf16": False, "activation_checkpointing": False}
"""The number format and memory use of the other two, for a comparison of like with like."""
IN_ORDER: dict[str, Any] = {**FULL_PRECISION, "train_sampling_strategy": "sequential"}
"""The same, over rows in the given order."""
