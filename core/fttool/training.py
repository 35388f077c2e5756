"""What core adds to a task's Trainer: its own loader, optimizer, loss, evaluation, checkpoints and log.

The loop itself is transformers'. `Loop` overrides the methods that it offers for this, and is mixed in before the
class that the task strategy names, whatever that is.
"""

from __future__ import annotations

import io
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback

from fttool import checkpoints
from fttool.data import Rows
from fttool.errors import DivergedError, PluginError, Problem, gist
from fttool.evaluation import Score, evaluate
from fttool.families import ALWAYS, Factor, Measure, Regularization
from fttool.groups import Group, folded_importance, let_train
from fttool.loader import EpochLoader
from fttool.observers import Observers
from fttool.pulls import pull_value, set_importance
from fttool.recipe import Recipe
from fttool.record import Record
from fttool.screen import Screen

SKIPPED_IN_A_ROW = 20
"""Updates that loss scaling may skip before the run counts as diverged; it halves its scale at each."""


@dataclass
class Progress:
    """What core counts over a run; saved with each checkpoint."""

    train_tokens: int = 0
    """Tokens seen, padding not counted."""
    label_tokens: int = 0
    """Labels learned."""
    seconds: float = 0.0
    """Time spent in updates, without evaluation and saving."""
    before: dict[str, float] = field(default_factory=dict[str, float])
    """Metrics before the first update."""
    answers_before: list[str] = field(default_factory=list[str])
    latest: dict[str, float] = field(default_factory=dict[str, float])
    latest_step: int = 0
    best: float | None = None
    best_step: int | None = None
    worse_in_a_row: int = 0
    stopped_early: bool = False
    skipped_in_a_row: int = 0


@dataclass(kw_only=True)
class Job:
    """Everything the loop needs, as plain values and functions."""

    recipe: Recipe
    rows: Rows
    loader: EpochLoader
    eval_batches: Callable[[], Any]
    score: Score
    measures: Mapping[str, Measure]
    groups: Sequence[Group]
    make_optimizer: Callable[[], torch.optim.Optimizer]
    factor: Factor
    regularizations: Sequence[Regularization]
    stateful: Mapping[str, Any]
    """Objects with `state_dict`, by their place in the recipe."""
    record: Record
    observers: Observers
    screen: Screen
    answers: Callable[[], list[str]]
    """The model's present answers to the sampled evaluation prompts."""
    progress: Progress = field(default_factory=Progress)
    signal: int | None = None
    """SIGINT or SIGTERM once it has come: the run saves and stops after the current update."""


if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


def trainer_class(base: type[Trainer]) -> type[Any]:
    """`base` with core's loop mixed in."""
    return type(f"Fttool{base.__name__}", (Loop, base), {})


class Loop(_Base):
    """Overrides of `transformers.Trainer`; `job` is set before its constructor runs."""

    def __init__(self, job: Job, **arguments: Any) -> None:
        self.job = job
        self._losses: list[tuple[torch.Tensor, list[int]]] = []
        self.latest_rows: list[int] = []
        """Of the latest update."""
        self._began = 0.0
        self._operations_per_slot: int | None = None
        self.logged = Progress()
        """What had been counted when a line was last logged."""
        super().__init__(**arguments)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the labels of the whole update
        self.add_callback(_Watch(self))

    # -- what the loop is made of --

    def get_train_dataloader(self) -> EpochLoader:
        """The loader whose order is a pure function of seed and epoch."""
        return self.job.loader

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer over the recipe's groups."""
        self.optimizer = self.job.make_optimizer()
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The recipe's schedule as a factor of each group's rate."""
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self.job.factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    # -- one update --

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Fetch an update's micro-batches; the update's time counts from here."""
        self._began = time.perf_counter()
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Labels of the whole update, whatever the accumulation."""
        labels = sum(int(batch["labels"].ne(-100).sum()) for batch in batch_samples)
        lengths = self.job.rows.train.ends
        progress = self.job.progress
        progress.label_tokens += labels
        progress.train_tokens += sum(
            lengths[row] - (lengths[row - 1] if row else 0) for batch in batch_samples for row in batch["rows"]
        )
        return torch.tensor(labels, device=device)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """transformers' estimate; it would walk through all modules and parameters anew for each micro-batch."""
        slots = inputs["input_ids"].numel()
        if self._operations_per_slot is None:
            self._operations_per_slot = super().floating_point_ops(inputs) // slots
        return self._operations_per_slot * slots

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The micro-batch's share of the update's loss: the sum of its token losses over all labels of the update."""
        rows = inputs.pop("rows")
        losses_N = self.job.score(model, inputs).losses_N
        loss = losses_N.sum() / num_items_in_batch
        self._losses.append((loss.detach(), rows))
        share = losses_N.numel() / num_items_in_batch
        for one in self.job.regularizations:
            if one.loss is not None:
                loss = loss + share * one.loss(model)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm before clipping; called once per update, right before the optimizer's step."""
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._refuse_non_finite(float(norm))
        return norm

    def _refuse_non_finite(self, norm: float) -> None:
        losses, rows = zip(*self._losses, strict=True)
        self._losses.clear()
        self.latest_rows = [row for ids in rows for row in ids]
        finite = torch.isfinite(torch.stack(losses)).tolist()
        step = self.state.global_step + 1
        if not all(finite):
            bad = [row for ids, fine in zip(rows, finite, strict=True) if not fine for row in ids]
            self.diverged(f"the loss of update {step} is not finite", bad)
        scaled = getattr(self.accelerator, "scaler", None) is not None
        if not math.isfinite(norm) and not scaled:
            self.diverged(f"the gradient of update {step} is not finite", self.latest_rows)

    def diverged(self, what: str, rows: Sequence[int]) -> None:
        """Record and raise that the run cannot go on, naming the rows of the update."""
        origins = [self.job.rows.train.origins[row] for row in rows]
        self.job.record.event("diverged", step=self.state.global_step + 1, what=what, rows=origins)
        shown = ", ".join(origins[:3]) + (f" and {len(origins) - 3} more" if len(origins) > 3 else "")
        raise DivergedError(
            f"{what}; its rows: {shown}",
            hint='lower optimizer.lr, or look at these rows; with fp16, try precision = "bf16"',
        )

    # -- log, evaluation, checkpoints --

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what core measures, write the line, and tell screen, observers and trackers."""
        values: dict[str, Any] = dict(logs)
        if "loss" in values:
            values["lr"] = values.pop("learning_rate")
            done, last = self.job.progress, self.logged
            seconds = done.seconds - last.seconds
            values["tokens_per_second"] = (done.train_tokens - last.train_tokens) / seconds if seconds else 0.0
            values["train_tokens"] = done.train_tokens
            if any(one.pull is not None for one in self.job.regularizations):
                values["penalty"] = pull_value(_bare(self.optimizer))
            self.logged = replace(done)
        if "train_runtime" not in values:  # transformers' own closing line repeats what summary.json says
            step = self.state.global_step
            line = {"step": step, "epoch": round(self.state.epoch or 0.0, 4), **values}
            if not self.is_in_train:  # the weights that are saved, where they are not the last update's
                line["final"] = True
            self.job.record.metrics(line)
            self.job.screen.logged(step, line)
            self.job.observers.call("fttool_logged", step=step, values=line)
        super().log(values, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """All metrics on the evaluation rows."""
        job = self.job
        values = evaluate(self.model, job.eval_batches(), job.score, job.measures, self.args.device)
        job.progress.latest, job.progress.latest_step = values, self.state.global_step
        named = {f"eval_{name}": value for name, value in values.items()}
        self.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any = None) -> bool:
        """Note the best evaluation so far, ask for its checkpoint, and stop when it has not improved for long."""
        settings, progress = self.job.recipe.evaluation, self.job.progress
        name = settings.best or next(iter(self.job.measures), None)
        if name is None:
            return False
        metric = next(metric for metric in settings.metrics if metric.id() == name)
        value = metrics[f"eval_{name}"]
        before = progress.best if progress.best is not None and math.isfinite(progress.best) else None
        better = math.isfinite(value) and (
            before is None or (value > before if metric.greater_is_better else value < before)
        )
        if better:
            progress.best, progress.best_step, progress.worse_in_a_row = value, self.state.global_step, 0
            self.control.should_save = self.control.should_save or settings.best is not None
        else:
            progress.worse_in_a_row += 1
        if settings.early_stopping is not None and progress.worse_in_a_row >= settings.early_stopping:
            progress.stopped_early = self.control.should_training_stop = self.control.should_save = True
            self.job.record.event("stopped_early", step=self.state.global_step, best_step=progress.best_step)
        return better

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        """A complete checkpoint under its final name, or none."""
        job, step = self.job, self.state.global_step
        output_dir = self.args.output_dir
        plugin_state = savable_state(job.stateful)

        def write(folder: Path) -> None:
            self.args.output_dir = str(folder)
            try:
                Trainer._save_checkpoint(self, model, trial)  # not trl's: it writes a model card each time
            finally:
                self.args.output_dir = output_dir
            inner = folder / f"checkpoint-{step}"
            for file in inner.iterdir():
                file.rename(folder / file.name)
            inner.rmdir()
            (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle of this machine's settings
            torch.save(plugin_state, folder / "fttool_state.pt")

        path = checkpoints.save(job.record.checkpoints, step, write, asdict(job.progress))
        checkpoints.prune(
            job.record.checkpoints,
            job.recipe.checkpoints.keep,
            job.progress.best_step if job.recipe.evaluation.best else None,
        )
        job.record.event("checkpoint_saved", step=step)
        job.observers.call("fttool_checkpoint_saved", step=step, folder=path)

    def save_final(self, folder: Path) -> None:
        """The model, tokenizer and chat template, ready for `from_pretrained`."""
        aside = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        self.save_model(str(aside))
        (aside / "training_args.bin").unlink(missing_ok=True)
        if folder.exists():  # the model of the shorter run that this one has resumed
            shutil.rmtree(folder)
        aside.rename(folder)


class _Watch(TrainerCallback):
    """When to evaluate, save and stop."""

    def __init__(self, trainer: Loop) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        job = self.trainer.job
        self.trainer.logged = replace(job.progress)  # a resumed run's first line is about its own updates
        if state.global_step == 0:
            self._weigh()
        if state.global_step == 0 and len(job.rows.eval):
            job.screen.stage("evaluating before the first update")
            job.progress.before = {k.removeprefix("eval_"): v for k, v in self.trainer.evaluate().items()}
            job.progress.answers_before = job.answers()

    def _weigh(self) -> None:
        """Give the optimizer the importance of weights, where a pull has one; a resumed one has it in its state."""
        job = self.trainer.job
        model: Any = self.trainer.model
        by_name = dict(model.named_parameters())
        pulls = [one.pull for one in job.regularizations if one.pull is not None]
        shapes = {name: by_name[name].shape for group in job.groups for name in group.names}
        importance = folded_importance(pulls, shapes)
        set_importance(_bare(self.trainer.optimizer), {by_name[name]: values for name, values in importance.items()})

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before an update's first forward pass: what trains in it."""
        groups = self.trainer.job.groups
        if any(group.trains_in != ALWAYS for group in groups):
            let_train(_bare(self.trainer.optimizer), groups, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, job, step = self.trainer, self.trainer.job, state.global_step
        model: Any = trainer.model
        job.progress.seconds += time.perf_counter() - trainer._began  # pyright: ignore[reportPrivateUsage]
        skipped = bool(trainer.accelerator.optimizer_step_was_skipped)
        job.progress.skipped_in_a_row = job.progress.skipped_in_a_row + 1 if skipped else 0
        if job.progress.skipped_in_a_row >= SKIPPED_IN_A_ROW:
            trainer.diverged(f"loss scaling skipped {SKIPPED_IN_A_ROW} updates in a row", trainer.latest_rows)
        for one in job.regularizations:
            if one.after_update is not None and not skipped:
                one.after_update(model, step)
        job.screen.step(step)
        last = step >= state.max_steps or job.signal is not None
        every = job.recipe.evaluation.every
        if len(job.rows.eval) and ((every and step % every == 0) or step >= state.max_steps):
            control.should_evaluate = True
        if last or (job.recipe.checkpoints.every and step % job.recipe.checkpoints.every == 0):
            control.should_save = True
        if job.signal is not None:
            control.should_training_stop = True


def _bare(optimizer: Any) -> Any:
    """The torch optimizer inside accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def savable_state(stateful: Mapping[str, Any]) -> dict[str, Any]:
    """The state of every object, by its place; `PluginError` where it could not be read back from a checkpoint.

    A checkpoint is read without running code from it: tensors, numbers, text, and lists and dictionaries of them.
    """
    state: dict[str, Any] = {}
    for place, thing in stateful.items():
        try:
            state[place] = thing.state_dict()
            file = io.BytesIO()
            torch.save(state[place], file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as fault:
            message = f"the state of {place} cannot be saved: {gist(fault)}"
            hint = "its state_dict() must hold only tensors, numbers, text, and lists and dictionaries of them"
            key = tuple(int(part) if part.isdigit() else part for part in place.split("."))
            raise PluginError(Problem(message, hint=hint, key=key)) from fault
    return state


def restore(job: Job, checkpoint: checkpoints.Checkpoint) -> None:
    """Give plugins and counters the state of a checkpoint; the Trainer restores its own."""
    job.progress = Progress(**checkpoint.progress)
    state: dict[str, Any] = torch.load(checkpoint.path / "fttool_state.pt", weights_only=True)
    if set(state) != set(job.stateful):
        raise PluginError(
            f"the checkpoint holds state of {sorted(state)}, this recipe's strategies of {sorted(job.stateful)}",
            hint="install the plugin versions that lock.json names",
        )
    for place, thing in job.stateful.items():
        thing.load_state_dict(state[place])


def states(**built: Any) -> dict[str, Any]:
    """Of what strategies built, the objects that have state; a dataclass is asked for its fields too."""
    found: dict[str, Any] = {}
    for place, thing in built.items():
        parts = {place: thing}
        if isinstance(thing, Regularization):
            parts = {f"{place}.{name}": getattr(thing, name) for name in thing.__dataclass_fields__}
        found |= {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
    return found
