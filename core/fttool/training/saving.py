"""What a run writes of its model and of its state, and how both are read again: checkpoints, and the final model.

`Saving` overrides the methods of `transformers.Trainer` for this; `Loop` is a `Saving`.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.tensor import DTensor
from transformers import Trainer
from transformers.integrations.deepspeed import deepspeed_load_checkpoint
from transformers.trainer_pt_utils import safe_globals

from fttool import disk
from fttool.contracts.update import Regularization
from fttool.errors import PluginError, Problem, UsageError, gist
from fttool.permissions import apply_umask
from fttool.rundir import checkpoints
from fttool.training import weights
from fttool.training.finite import Finite
from fttool.training.formats import put_into
from fttool.training.guard import overrides
from fttool.training.held_bytes import bytes_of
from fttool.training.job import Job
from fttool.training.progress import Progress
from fttool.training.shards import gathered, local_shard, mapped, reshard, runtime_errors
from fttool.training.terms import Terms

FILE_SIZE = "5GB"
"""Largest file of a saved model; a larger model is in several, with an index."""


class Saving(Finite):
    """Overrides of `transformers.Trainer` that write and read weights."""

    terms: Terms

    @overrides("checkpoint")
    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        """A complete checkpoint under its final name, or none."""
        job, step = self.job, self.state.global_step
        self.refuse_non_finite_weights()
        if not job.output.saves:
            return
        job.watch.refuse_loss()
        output_dir = self.args.output_dir
        plugin_state = gathered(savable_state(job.output.stateful), keep=job.world.first)
        job.progress.logged_step, job.progress.unlogged_loss = self._globalstep_last_logged, float(self._tr_loss)
        job.progress.unlogged_terms = self.terms.unlogged(job.world)

        def write(folder: Path) -> None:
            self.args.output_dir = str(folder)  # transformers writes into a `checkpoint-N` of its own in there
            try:
                with runtime_errors():
                    Trainer._save_checkpoint(self, model, trial)  # not trl's: it writes a model card each time
            finally:
                self.args.output_dir = output_dir
            job.world.barrier()
            if job.world.first:
                inner = folder / f"checkpoint-{step}"
                for file in inner.iterdir():
                    file.rename(folder / file.name)
                inner.rmdir()
                (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle of this machine's settings
                torch.save(plugin_state, folder / "fttool_state.pt")

        needed = self._checkpoint_bytes()
        path = checkpoints.save(job.output.checkpoints, step, write, asdict(job.progress), job.world, needed=needed)
        job.output.vouched.add(path)
        if not job.world.first:
            return
        checkpoints.prune(
            job.output.checkpoints,
            job.recipe.checkpoints.keep,
            stable=job.stable,
            keep_stable=job.recipe.checkpoints.keep_stable,
            best=job.recipe.evaluation.best is not None,
        )
        job.watch.saved(step, path)

    def _checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: the weights that train, and the optimizer's state in all processes."""
        held: Any = self.optimizer
        state = [
            value for moments in held.state.values() for value in moments.values() if isinstance(value, torch.Tensor)
        ]
        weights_kept = [p for name, p in self._module.named_parameters() if name in self._trained]
        return (bytes_of(weights_kept) + bytes_of(state)) * (self.job.world.size if self._sharded else 1)

    @overrides("checkpoint")
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The weights for a checkpoint, under the names that the model has now: those that train.

        transformers would save some architectures under other names, and then find none of them when it loads them
        into the model: a mixture of experts would go on with the experts that it began with. A sharding engine writes
        its own beside the optimizer's state.
        """
        if self.args.should_save and not self._sharded:
            folder = Path(output_dir or "")
            folder.mkdir(exist_ok=True)  # another process may have begun to write its own share
            weights.save(self._module, self._trained, folder)

    @overrides("resume")
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """The weights that `save_model` or the engine wrote."""
        folder = Path(resume_from_checkpoint)
        refuse_strange_code(self.job, folder)
        if self.is_deepspeed_enabled:
            deepspeed_load_checkpoint(self.model_wrapped, resume_from_checkpoint)
        elif self.is_fsdp_enabled:
            with runtime_errors():
                super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            weights.load(self._module, self._trained, folder)

    @property
    def _sharded(self) -> bool:
        """True where an engine holds the weights or their optimizer's state in shards."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    @property
    def _module(self) -> torch.nn.Module:
        return cast("torch.nn.Module", self.model)

    @property
    def _trained(self) -> set[str]:
        """Names of the parameters that train in some update."""
        return {name for group in self.job.update.groups for name in group.names}

    def gather_weights(self, *, changed: bool) -> None:
        """Where an engine holds the weights, give the first process all of them as plain tensors in the machine's
        memory, to be saved; the others and the engine are of no more use then.

        `changed`: the model's own weights are newer than what the engine trained them on.
        """
        masters = {} if changed else self._masters()
        reshard(self._module)
        if self.job.plan.weights_apart or any(isinstance(p, DTensor) for p in self._module.parameters()):
            tensors: Any = self.accelerator.get_state_dict(self.model_wrapped)
            if self.job.world.first:
                weights.put(self._module, tensors)
        elif self.is_deepspeed_enabled and self.job.world.first:
            for p in self._module.parameters():  # pieces of one tensor: to save them on the device would take it twice
                p.data = p.data.to("cpu", copy=True)
        for name, tensor in masters.items():
            self._module.get_parameter(name).data = tensor

    def _masters(self) -> dict[str, torch.Tensor]:
        """What the model's weights are copies of, where these hold less than is to be saved; for the first process."""
        job, masters = self.job, dict[str, torch.Tensor]()
        if job.plan.masters is None:
            return masters
        wanted = {name: job.output.formats.of(name, p) for name, p in self._module.named_parameters()}
        if all(wanted[name] == p.dtype for name, p in self._module.named_parameters()):
            return masters
        for name, tensor in job.plan.masters(self):
            if job.world.first:
                masters[name] = tensor.to("cpu", wanted[name], copy=True)
        return masters

    def save_final(self, folder: Path, card: str, export: Callable[[Any, Path], None] | None = None) -> None:
        """The model, tokenizer, chat template and card, ready for `from_pretrained`, and what freezing exports beside.

        All of it is on disk before any of it has its name; `job.output.files` has the hashes.
        """
        job, aside, first = self.job, folder.with_name(f".{folder.name}.partial"), self.job.world.first
        with disk.writing(folder, needed=bytes_of(self._module.parameters()), hint=checkpoints.ROOM):
            try:
                if first:
                    job.watch.refuse_loss()
                    shutil.rmtree(aside, ignore_errors=True)
                    aside.mkdir()
                    if export is not None:
                        export(self.model, aside)
                    put_into(job.output.formats, self._module)
                # once more: 16 bits may be too few for them, as for an adapter's sum
                self.refuse_non_finite_weights(gathered=True)
                if first:
                    write_model(self.model, self.processing_class, aside / folder.name)
                    job.output.files = disk.hashes(aside)
                    (aside / folder.name / "README.md").write_text(card, encoding="utf-8")  # to be edited: no hash
                    disk.flush_all(aside)
                    _replace(aside, folder.parent)
            finally:
                if first:
                    shutil.rmtree(aside, ignore_errors=True)
        job.world.barrier()

    @overrides("resume")
    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The next update's rate comes from the schedule as it is now, not from that of the run that saved it."""
        scaler = self.accelerator.scaler
        if checkpoint is not None and scaler is not None:  # torch makes FSDP's state by a step, which asks for a scale
            scaler._lazy_init_scale_growth_tracker(self.args.device)  # pyright: ignore[reportPrivateUsage]
        with runtime_errors():
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        scheduler: Any = self.lr_scheduler
        optimizer: Any = self.optimizer
        factor = self.job.update.factor(scheduler.last_epoch)
        for group, peak in zip(optimizer.param_groups, scheduler.base_lrs, strict=True):
            group["lr"] = peak * factor
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # the log reads them there

    def go_on_logging(self) -> None:
        """The next line of a resumed run has the mean loss since the last line, as if the run had not stopped."""
        self._globalstep_last_logged = self.job.progress.logged_step
        self._tr_loss.fill_(self.job.progress.unlogged_loss)
        self.terms.go_on(self.job.progress.unlogged_terms, self.job.progress.logged_step, self.args.device)


def write_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """A model with all that `from_pretrained` needs."""
    model.save_pretrained(folder, max_shard_size=FILE_SIZE)
    tokenizer.save_pretrained(folder)
    apply_umask(folder)


def _replace(aside: Path, folder: Path) -> None:
    """Move what is in one folder to another one, in place of what has these names there."""
    for new in aside.iterdir():
        old = folder / new.name
        if old.is_dir():  # of the shorter run that this one has resumed, or damaged
            shutil.rmtree(old)
        new.rename(old)
    disk.flush(folder)


def savable_state(stateful: Mapping[str, Any]) -> dict[str, Any]:
    """The state of every object, by its place; `PluginError` where it could not be read back from a checkpoint.

    A checkpoint is read without running code from it: tensors, numbers, text, and lists and dictionaries of them.
    """
    state: dict[str, Any] = {}
    for place, thing in stateful.items():
        try:
            state[place] = thing.state_dict()
            file = io.BytesIO()
            torch.save(mapped(state[place], _without_numbers), file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as fault:
            message = f"the state of {place} cannot be saved: {gist(fault)}"
            hint = "its state_dict() must hold only tensors, numbers, text, and lists and dictionaries of them"
            key = tuple(int(part) if part.isdigit() else part for part in place.split("."))
            raise PluginError(Problem(message, hint=hint, key=key)) from fault
    return state


def _without_numbers(tensor: torch.Tensor) -> torch.Tensor:
    """To try a full average of all weights would take its memory twice over again."""
    return local_shard(tensor).new_empty(0) if type(tensor) in (torch.Tensor, DTensor) else tensor


def restore(job: Job, checkpoint: checkpoints.Checkpoint) -> None:
    """Give plugins and counters the state of a checkpoint; the Trainer restores its own.

    Raises `UsageError` where the run's sharding cannot read it.
    """
    _refuse_another_sharding(job, checkpoint)
    refuse_strange_code(job, checkpoint.path)
    _refuse_more_than_data(checkpoint.path)
    job.progress = Progress(**checkpoint.progress)
    state: dict[str, Any] = torch.load(checkpoint.path / "fttool_state.pt", map_location="cpu", weights_only=True)
    if set(state) != set(job.output.stateful):
        raise PluginError(
            f"the checkpoint holds state of {sorted(state)}, this recipe's strategies of {sorted(job.output.stateful)}",
            hint="install the plugin versions that lock.json names",
        )
    for place, thing in job.output.stateful.items():
        thing.load_state_dict(state[place])


def refuse_strange_code(job: Job, folder: Path) -> None:
    """Raise `UsageError` where reading a checkpoint would run code that is in it, which another than this user may have
    put there. One process asks for all: the others read what it has named.
    """
    if job.plan.code_in is None or job.output.trusts or folder in job.output.vouched or not job.world.first:
        return
    checkpoint = checkpoints.intact(folder.parent, int(folder.name.removeprefix(checkpoints.PREFIX)))
    if isinstance(checkpoint, str):
        raise UsageError(checkpoint)
    code = "" if checkpoints.is_own(folder) else job.plan.code_in(folder)
    if code:
        message = (
            f"{folder.name} was not written by you on this machine, and to read it as sharding "
            f"'{job.recipe.sharding.id()}' does may run code: {code}"
        )
        hint = "add --trust-checkpoint if you trust whoever wrote it and all through whose hands it went"
        raise UsageError(message, where=str(folder), hint=hint)
    job.output.vouched.add(folder)


def _refuse_more_than_data(folder: Path) -> None:
    """Raise `UsageError` where a file of somebody else's checkpoint could not be read without running what is in it.

    torch reads these files so, and would end the run with advice to read them otherwise.
    """
    if checkpoints.is_own(folder):
        return
    for file in sorted([*folder.glob("*.pt"), *folder.glob("*.pth")]):
        try:
            with safe_globals():
                torch.load(file, map_location="meta", weights_only=True, mmap=True)
        except Exception as fault:
            message = f"{folder.name} was not written by you on this machine, and {file.name} holds more than data"
            hint = f"delete {folder}: --resume then goes on from an earlier one, or from the beginning"
            raise UsageError(message, where=str(file), hint=hint) from fault


def _refuse_another_sharding(job: Job, checkpoint: checkpoints.Checkpoint) -> None:
    sharding, name = job.recipe.sharding, checkpoint.path.name
    if not any(checkpoint.path.glob(job.plan.marker)):
        other, hint = f"'{sharding.id()}'", "resume it with the [sharding] that its run began with"
        if job.plan.reason:
            other = f"what '{sharding.id()}' takes now ({job.plan.reason})"
            hint = "the run's log says what it took then: name that one"
        raise UsageError(f"{name} was saved under another kind of sharding than {other}", hint=hint)
    saved, now = checkpoints.processes(checkpoint), job.world.size
    if saved != now and not job.plan.reshards:
        message = f"{saved} processes saved {name}, and '{sharding.id()}' cannot read it in {now}"
        raise UsageError(message, hint=f"set sharding.processes = {saved}")


def states(**built: Any) -> dict[str, Any]:
    """Of what strategies built, the objects that have state; a dataclass is asked for its fields too."""
    by_name: dict[str, Any] = {}
    for place, thing in built.items():
        parts = {place: thing}
        if isinstance(thing, Regularization):
            parts = {f"{place}.{name}": getattr(thing, name) for name in thing.__dataclass_fields__}
        by_name |= {name: part for name, part in parts.items() if hasattr(part, "state_dict")}
    return by_name
