"""A run's outline: what goes through its model, what trains and when, and what that takes; no weight is loaded.

The model is made from its configuration on torch's meta device, where tensors have a shape and no memory: a model of
any size is there in seconds. Rows are read as the run reads them, so their lengths are the real ones; or not at all,
where their number is given. Regularizers are left out, as they look at weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.contracts.model import FreezingContext, FreezingPlan
from fttool.contracts.sharding import Memory, Numerics
from fttool.contracts.task import TaskContext
from fttool.contracts.update import OptimizerContext
from fttool.machine import memory_bytes
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.rows.encoding import untracked
from fttool.rundir.record import Record
from fttool.watch.screen import choose
from fttool.watch.watch import Watch
from fttool.world import World
from fttool.yielded import built, check_freezing_plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fttool.rows.loader import Planned
    from fttool.runs.stages.setup import Setup


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is known of a run before anything is loaded."""

    model: PreTrainedModel
    """On the meta device; adapters of the freezing strategy are in it."""
    freezing: FreezingPlan
    """What trains, and when."""
    total_steps: int
    """Updates of the whole run."""
    steps_per_epoch: int
    """Updates of one pass over the rows."""
    planned: Sequence[Planned]
    """The rows that are learned from with their micro-batches of an epoch, then those of an evaluation, each with its
    own; none where no rows were read."""
    run: Setup
    """The recipe as it is read, this machine's device, and the number formats."""

    @property
    def device_bytes(self) -> int:
        """Memory of this machine's device; on a CPU what a process has of the machine's."""
        launch = self.run.loaded.recipe.sharding.launch
        return memory_bytes(self.run.device, launch.processes // launch.nodes)

    def memory(self, slots: int, learned: int, *, device: int, recomputed: bool) -> Memory:
        """What one process of `device` bytes would hold with micro-batches of so many slots, so many of them before the
        head, and with `recomputed` activations or without.
        """
        from fttool.contracts.layers import layers
        from fttool.training.memory import estimate

        loaded, named = self.run.loaded, dict(self.model.named_parameters())
        recipe = loaded.recipe
        context = OptimizerContext(
            device=self.run.device, unfused=False, sharded=recipe.sharding.sharded, **loaded.common
        )
        optimizer = built(recipe.optimizer, context)
        names = sorted({name for unit in self.freezing.units for name in unit.parameters})
        parts = layers(self.model)
        groups = [
            {"params": [named[name]], **(keys(name, named[name], parts) if (keys := optimizer.group_keys) else {})}
            for name in names
        ]
        for name, parameter in named.items():
            parameter.requires_grad_(name in names)
        return estimate(
            self.model,
            parts,
            optimizer=lambda these: optimizer.optimizer_class(these, lr=recipe.optimizer.lr, **optimizer.options),
            groups=groups,
            tokens=slots,
            learned=learned,
            recomputed=recomputed,
            half=self.run.numerics.autocast != "no",
            device=device,
        )


class WithoutWeights:
    """Stands in for a transformers class where a source loads a model: what it makes has shapes, and no weights."""

    def __init__(self, model_class: Any) -> None:
        self.model_class = model_class

    def from_pretrained(self, where: str, *, dtype: Any, output_loading_info: bool = False, **options: Any) -> Any:
        """The model of a folder's or hub id's configuration, with a report that nothing was missing."""
        from transformers import AutoConfig

        chosen = {key: options[key] for key in options if key not in ("attn_implementation", "use_safetensors")}
        ways = {key: options[key] for key in ("attn_implementation",) if key in options}
        chosen.pop("ignore_mismatched_sizes", None)
        config = AutoConfig.from_pretrained(where, **chosen)
        model = self.from_config(config, dtype=dtype, **ways)
        return (model, {"missing_keys": [], "mismatched_keys": []}) if output_loading_info else model

    def from_config(self, config: Any, **options: Any) -> Any:
        """The model of a configuration."""
        import torch

        with torch.device("meta"):
            return self.model_class.from_config(config, **options)


def outline(
    loaded: Loaded, *, rows: int | None = None, numerics: Numerics | None = None, quiet: bool = False
) -> Outline:
    """The outline of a recipe's run; with `rows` of so many rows, of which none is read.

    `numerics` are the number formats where they are not those of this machine.

    Raises:
        FttoolError: the one that `fttool run` would print.
    """
    from fttool.rows.filtering import build_source
    from fttool.runs.stages.batches import make_batches
    from fttool.runs.stages.model import load_options
    from fttool.runs.stages.rows import READING, load_rows, task_parts
    from fttool.runs.stages.setup import set_up

    nowhere, world = Path("nowhere"), World(size=loaded.recipe.sharding.world_size)
    with explained(loaded):
        screen = choose(quiet=quiet, as_json=False)
        run = set_up(loaded, nowhere, Watch(loaded, Record(nowhere), screen, on=False), world)
        run = run if numerics is None else replace(run, numerics=numerics)
        recipe = run.loaded.recipe
        if rows is None:
            screen.stage(READING)
            source, tokenizer, read = load_rows(run.loaded, track=screen.track)
            parts = task_parts(run.loaded, read)
        else:
            source, tokenizer, read = build_source(run.loaded), None, None
            parts = built(recipe.task, TaskContext(rows=rows, masking=recipe.masking, **run.loaded.common))
        options = load_options(run.loaded, parts, run.numerics)
        model = source.model(replace(options, model_class=WithoutWeights(options.model_class)))
        batching = make_batches(run.loaded, read, tokenizer, parts, model, world) if read and tokenizer else None
        turns = len(batching.loader) if batching else -(-(rows or 0) // (recipe.micro_batch * world.size))
        per_epoch = -(-turns // recipe.accumulation)
        total = recipe.run.max_steps or (recipe.run.epochs or 1) * per_epoch
        return Outline(
            model=model,
            freezing=_frozen(run.loaded, model, total, per_epoch),
            total_steps=total,
            steps_per_epoch=per_epoch,
            planned=batching.planned() if batching else [],
            run=run,
        )


def _frozen(loaded: Loaded, model: PreTrainedModel, total_steps: int, steps_per_epoch: int) -> FreezingPlan:
    """What the recipe's freezing makes of a model without weights."""
    from fttool.contracts.layers import layers

    context = FreezingContext(
        model=model,
        layers=layers(model),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        track=untracked,
        **loaded.common,
    )
    plan = built(loaded.recipe.freezing, context)
    check_freezing_plan(loaded.recipe.freezing, plan, [name for name, _ in model.named_parameters()])
    return plan
