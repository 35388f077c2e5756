"""What core adds to a task's Trainer: its own loader, optimizer, loss, evaluation and log; what it saves is `Saving`'s.

The loop itself is transformers'. `Loop` overrides the methods that it offers for this, and is mixed in before the
class that the task strategy names, whatever that is.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, set_seed

from fttool.contracts.model import ALWAYS
from fttool.contracts.task import Losses, Predictions
from fttool.events import Proof, StoppedEarly
from fttool.rows.loader import EpochLoader
from fttool.training.additions import Additions, micro_batch
from fttool.training.evaluation import answered, note_best, remarks, summed, tables
from fttool.training.groups import folded_importance, let_train
from fttool.training.guard import Moment, overrides, refuse_changed, refuse_uncalled
from fttool.training.halving import Use, in_passes
from fttool.training.job import Job
from fttool.training.passes import Batch
from fttool.training.progress import Progress
from fttool.training.pulls import pull_value, set_importance
from fttool.training.saving import Saving
from fttool.training.scaling import let_the_scaler_decide
from fttool.training.shards import reshard
from fttool.training.terms import Terms
from fttool.yielded import check_losses, check_measure, checked_factor, checked_pull

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")


def trainer_class(base: type[Trainer]) -> type[Any]:
    """`base` with core's loop mixed in."""
    return type(f"Fttool{base.__name__}", (Loop, base), {})


def refuse_other_libraries(base: type[Trainer] = Trainer) -> None:
    """Raise `LibraryError` where the libraries are not what the loop is written for, or `base` is not."""
    refuse_changed((Loop, base), (_Watch, TrainerCallback))


class Loop(Saving):
    """Overrides of `transformers.Trainer`; `job` is set before its constructor runs."""

    def __init__(self, job: Job, **arguments: Any) -> None:
        self.job = job
        self.terms = Terms()
        varies = any(group.trains_in != ALWAYS for group in job.update.groups)
        self.additions = Additions(job.recipe.regularizers, job.update.regularizations, varies=varies)
        self._update_tokens = 0
        self._began = 0.0
        self._operations_per_slot: int | None = None
        self._dataset_ends = list(accumulate(job.rows.learned_sizes))
        job.progress.seen_rows, job.progress.seen_tokens = ([0] * len(self._dataset_ends) for _ in range(2))
        self.logged = Progress()
        """What had been counted when a line was last logged."""
        super().__init__(**arguments)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the labels of the whole update
        self._watch = _Watch(self)
        self.add_callback(self._watch)

    def refuse_uncalled(self, *moments: Moment) -> None:
        """Raise `LibraryError` where transformers has not called what it must have called by now."""
        but = ("_load_from_checkpoint",) if self.is_deepspeed_enabled else ()  # its engine reads the weights
        refuse_uncalled([(self, Trainer), (self._watch, TrainerCallback)], moments, but)

    # -- what the loop is made of --

    @overrides("start")
    def create_accelerator_and_postprocess(self) -> None:
        """Let the sharding have its say."""
        super().create_accelerator_and_postprocess()
        if self.job.plan.engage is not None:
            self.job.plan.engage(self)

    @overrides("start")
    def get_train_dataloader(self) -> EpochLoader:
        """The loader whose order is a pure function of seed and epoch."""
        return self.job.batching.loader

    @overrides("start")
    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Weigh the weights while each process has all of them; a resumed optimizer has the importance in its state."""
        importance = {} if resume_from_checkpoint else self._importance()
        if self.job.plan.split is not None:
            self.job.plan.split(cast("PreTrainedModel", self.model))
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        if importance:
            set_importance(_bare(self.optimizer), self.job.plan.placed(self, importance))
        return prepared

    def _importance(self) -> Mapping[str, torch.Tensor]:
        by_name = dict(self._module.named_parameters())
        known = {name for name, _ in self._module.named_parameters(remove_duplicate=False)}
        pairs = zip(self.job.recipe.regularizers, self.job.update.regularizations, strict=True)
        pulls = [checked_pull(strategy, pull, known) for strategy, parts in pairs for pull in parts.pulls]
        return folded_importance(pulls, {name: by_name[name].shape for name in self._trained})

    @overrides("start")
    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer over the recipe's groups."""
        self.optimizer = self.job.update.new_optimizer(self.job.recipe.optimizer)
        let_the_scaler_decide(self.optimizer)
        return self.optimizer

    @overrides("start")
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """The recipe's schedule as a factor of each group's rate."""
        factor = checked_factor(self.job.recipe.schedule, self.job.update.factor)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        self._created_lr_scheduler = True  # or a second `train` would go on with this one
        return self.lr_scheduler

    @overrides("update")
    def _get_learning_rate(self) -> float:
        """The rate that is logged: the highest of all groups."""
        return max(float(rate) for rate in self.lr_scheduler.get_last_lr())

    # -- one update --

    @overrides("update")
    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        """The updates of an epoch; none where the run is over, and resumed for its model alone.

        transformers looks whether the run is over only after an update.
        """
        if self.state.global_step < self.state.max_steps and not self.job.progress.stopped_early:
            super()._run_epoch(*arguments, **named)

    @overrides("update")
    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Fetch an update's micro-batches; the update's time counts from here."""
        self._began = time.perf_counter()
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    @overrides("update")
    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Labels of the whole update, whatever the accumulation."""
        lengths, progress = self.job.rows.learned.lengths, self.job.progress
        datasets = len(self._dataset_ends)
        rows, tokens = [0] * datasets, [0] * datasets
        for row in (row for batch in batch_samples for sequence in batch["rows"] for row in sequence):
            dataset = bisect_right(self._dataset_ends, row)
            rows[dataset] += 1
            tokens[dataset] += lengths[row]
        own = sum(self.job.items(batch) for batch in batch_samples if batch["rows"])
        added = self.additions.counts(batch_samples, self.state.global_step)
        labels, *sums = self.job.world.all_reduce_sums([own, *rows, *tokens, *added], device)
        self.additions.begin(sums[2 * datasets :])
        progress.label_tokens += labels
        seen_rows, seen_tokens = sums[:datasets], sums[datasets : 2 * datasets]
        progress.seen_rows = [sum(pair) for pair in zip(progress.seen_rows, seen_rows, strict=True)]
        progress.seen_tokens = [sum(pair) for pair in zip(progress.seen_tokens, seen_tokens, strict=True)]
        progress.train_tokens = sum(progress.seen_tokens)
        self._update_tokens = sum(seen_tokens)
        return torch.tensor(labels, device=device)

    @overrides("update")
    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """transformers' estimate; it would walk through all modules and parameters anew for each micro-batch."""
        slots = inputs["input_ids"].numel()
        if self._operations_per_slot is None:
            self._operations_per_slot = super().floating_point_ops(inputs) // slots
        return self._operations_per_slot * slots

    @overrides("update")
    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch forward and back.

        In several passes it is a whole update (`Recipe.micro_batch`), so there is nothing else to undo.
        """
        step = super().training_step

        def undo() -> None:
            self.losses.clear()
            self.terms.forget()
            _bare(self.optimizer).zero_grad()

        losses = self.in_passes("training", inputs, lambda piece: step(model, dict(piece), num_items_in_batch), undo)
        return torch.stack(losses).sum() - self.terms.settle()

    @overrides("update")
    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The micro-batch's share of the update's loss: the sum of its token losses over all labels of the update.

        Times the number of processes, since every engine takes the mean of their gradients.
        """
        batch, size = micro_batch(inputs, inputs.pop("rows"), self.state.global_step), self.job.world.size
        learned_by = self.job.learn(model, inputs)
        first = not self.job.held  # counting waits for the device: only in the first update
        kind = Predictions if self.job.learn is self.job.score else Losses
        check_losses(self.job.recipe.task, learned_by, kind, self.job.items(inputs) if first else None)
        losses_N = learned_by.losses_N
        if not batch.rows:  # padding: computed on, as other processes wait for this one, but not learned from
            losses_N = losses_N * 0
        loss = losses_N.sum() / num_items_in_batch * size
        if learned_by.terms:
            tokens = sum(self.job.rows.learned.lengths[row] for row in batch.rows)
            loss = loss + self.terms.shared(learned_by.terms, tokens / self._update_tokens * size)
        self.losses.append((loss.detach(), list(batch.rows)))
        share = losses_N.numel() / num_items_in_batch if batch.rows else 0.0
        for name, term, part in self.additions.terms(model, batch, learned_by, share):
            loss = loss + self.terms.shared({name: term}, part * size)
        return loss

    # -- log, evaluation, checkpoints --

    @overrides("log")
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what core measures, and tell of it."""
        values: dict[str, Any] = dict(logs)
        if "loss" in values:
            values["lr"] = values.pop("learning_rate")
            done, last = self.job.progress, self.logged
            seconds = done.seconds - last.seconds
            values["tokens_per_second"] = (done.train_tokens - last.train_tokens) / seconds if seconds else 0.0
            values["train_tokens"] = done.train_tokens
            if self.args.fp16:
                values["skipped_updates"] = done.skipped
            if any(regularization.pulls for regularization in self.job.update.regularizations):
                values["penalty"] = self._penalty()
            values |= self.terms.line(self.state.global_step, self.job.world)
            self.logged = replace(done)
        if "train_runtime" not in values:  # transformers' own closing line repeats what summary.json says
            step = self.state.global_step
            steps_per_epoch = -(-len(self.job.batching.loader) // self.args.gradient_accumulation_steps)
            line = {"step": step, "epoch": round(step / steps_per_epoch, 4), **values}
            if not self.is_in_train:  # the weights that are saved, where they are not the last update's
                line["final"] = True
            self.job.watch.logged(step, line)
        super().log(values, start_time)

    def _penalty(self) -> float:
        own = pull_value(_bare(self.optimizer))
        if self.is_deepspeed_enabled:
            own = float(self.job.world.all_reduce(torch.tensor(own, dtype=torch.float64, device=self.args.device)))
        return own

    @overrides("evaluation")
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """All metrics on the evaluation rows and on each retention dataset."""
        job = self.job

        def totals(batches: Callable[[], Any]) -> dict[str, torch.Tensor]:
            return summed(
                self.model,
                batches(),
                job.score,
                job.measuring.measures,
                self.args.device,
                job.world,
                lambda batch, work: self.in_passes("evaluation", batch, work),
            )

        def values_of(sums: Mapping[str, torch.Tensor]) -> dict[str, float]:
            values: dict[str, float] = {}
            for metric in job.recipe.evaluation.metrics:
                if metric.id() in sums:
                    values[metric.id()] = job.measuring.measures[metric.id()].value(sums[metric.id()])
                    check_measure(metric, values[metric.id()])
            return values

        values: dict[str, float] = {}
        if len(job.rows.eval):
            sums = {**totals(job.batching.eval_batches), **self._answered()}
            values = values_of(sums)
            job.progress.tables = tables(job.measuring.measures, sums)
            job.progress.remarks = remarks(job.measuring.measures, sums)
            for name, said in job.progress.remarks.items():
                job.watch.note(f"{name}: {said}")
        retained = {dataset: values_of(totals(batches)) for dataset, batches in job.batching.retention_batches.items()}
        reshard(self._module)
        job.progress.latest, job.progress.retention_latest = values, retained
        job.progress.latest_step = self.state.global_step
        named = {f"eval_{name}": value for name, value in values.items()}
        for dataset, numbers in retained.items():
            named |= {f"retention_{dataset}_{name}": value for name, value in numbers.items()}
        self.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def _answered(self) -> dict[str, torch.Tensor]:
        """The statistics of metrics that look at answers."""
        job, of = self.job, self.job.measuring
        together = job.recipe.sharding.sharded
        return answered(of.measures, of.asked_examples, of.ask, self.args.device, job.world, together=together)

    @overrides("evaluation")
    def _determine_best_metric(self, metrics: dict[str, float], trial: Any = None) -> bool:
        """Note the best evaluation so far, ask for its checkpoint, and stop when it has not improved for long."""
        settings, progress = self.job.recipe.evaluation, self.job.progress
        better = note_best(self.job.recipe, progress, self.state.global_step)
        if better is None:
            return False
        if better:
            progress.worse_in_a_row = 0
            self.control.should_save = self.control.should_save or settings.best is not None
        else:
            progress.worse_in_a_row += 1
        if settings.early_stopping is not None and progress.worse_in_a_row >= settings.early_stopping:
            progress.stopped_early = self.control.should_training_stop = self.control.should_save = True
            self.job.watch.event(StoppedEarly(step=self.state.global_step, best_step=progress.best_step))
        return better

    def in_passes(
        self, use: Use, batch: Batch, work: Callable[[Batch], T], undo: Callable[[], None] = lambda: None
    ) -> list[T]:
        """What `work` makes of a micro-batch, see `fewer.in_passes`."""
        return in_passes(self.job, use, self.state.global_step, batch, work, undo)


class _Watch(TrainerCallback):
    """When to evaluate, save and stop."""

    def __init__(self, trainer: Loop) -> None:
        self.trainer = trainer

    @overrides("start")
    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        job = self.trainer.job
        self.trainer.refuse_uncalled("start", *(("resume",) if state.global_step else ()))
        self.trainer.logged = replace(job.progress)  # a resumed run's first line is about its own updates
        if state.global_step:
            self.trainer.go_on_logging()
        elif job.world.size > 1:  # what each process draws (dropout, masks) is its own
            set_seed(args.seed + job.world.rank)
        self._prove()
        if state.global_step == 0 and job.rows.measurable:
            job.watch.stage("evaluating before the first update")
            self.trainer.evaluate()
            note_best(job.recipe, job.progress, 0)
            job.progress.before, job.progress.retention_before = job.progress.latest, job.progress.retention_latest
            job.progress.answers_before = job.measuring.answers()
        if job.keep_features is not None:
            job.keep_features(
                self.trainer.model,
                job.watch,
                lambda: job.asked is not None,
                lambda batch, work: self.trainer.in_passes("features", batch, work),
            )

    def _prove(self) -> None:
        """Refuse a model that is not as batches assume; a resumed run asks again, as its kernels may be others."""
        job = self.trainer.job
        proven = job.proof()
        job.progress.proof = job.progress.proof or proven.figures
        job.watch.event(Proof(comparisons=proven.compared, seconds=round(proven.seconds, 3)))
        proven.refuse()
        for note in proven.notes():
            job.watch.note(note)

    @overrides("update")
    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before an update's first forward pass: what trains in it."""
        groups = self.trainer.job.update.groups
        if any(group.trains_in != ALWAYS for group in groups):
            let_train(
                cast("torch.nn.Module", self.trainer.model), _bare(self.trainer.optimizer), groups, state.global_step
            )

    @overrides("update")
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, job, step = self.trainer, self.trainer.job, state.global_step
        model: Any = trainer.model
        job.progress.seconds += time.perf_counter() - trainer._began  # pyright: ignore[reportPrivateUsage]
        skipped = trainer.was_skipped()
        for regularization in job.update.regularizations:
            if regularization.after_update is not None and not skipped:
                regularization.after_update(model, step)
        if not job.held:  # the first update of this process
            trainer.refuse_uncalled("update")
            job.held = job.prove()
        job.signal = job.asked if job.world.size == 1 else trainer.asked or None
        job.watch.step(step)
        last = step >= state.max_steps or job.signal is not None
        every = job.recipe.evaluation.every
        if job.rows.measurable and ((every and step % every == 0) or step >= state.max_steps):
            control.should_evaluate = True
        settings = job.recipe.checkpoints
        stable_ends = bool(settings.keep_stable and job.stable) and step == job.stable[-1]
        if last or stable_ends or (settings.every and step % settings.every == 0):
            control.should_save = True
        if job.signal is not None:
            control.should_training_stop = True


def _bare(optimizer: Any) -> Any:
    """The torch optimizer inside accelerate's and DeepSpeed's."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer
