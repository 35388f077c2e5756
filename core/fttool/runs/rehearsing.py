"""What a run must write at its end, tried before its first update: can it be saved, and has the disk room for it?"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool import disk
from fttool.errors import DiskError, ModelError, Problem, gist

if TYPE_CHECKING:
    from fttool.runs.stages.loop import Prepared

WRITTEN = ("dtype", "architectures")
"""What transformers writes into a configuration when a model is saved."""


def refuse_unsavable(model: Any, tokenizer: Any) -> None:
    """Save all of a model but its weights into a scratch folder; raises `ModelError` where that cannot be done.

    That is its configurations, code of its own, the tokenizer and the templates. Of the weights, tensors that share
    memory are looked at, as safetensors takes none of them that the model does not declare.
    """
    for name in _template_names(tokenizer):
        if Path(name).name != name or name in (".", ".."):
            message = f"the tokenizer has a chat template named '{name}', which is no file name: it cannot be saved"
            raise ModelError(Problem(message, hint=_REPAIR, key=("model", "source")))
    with tempfile.TemporaryDirectory(prefix="fttool-") as scratch:
        for what, save in (
            ("tokenizer or its chat template", lambda: tokenizer.save_pretrained(scratch)),
            ("model's configuration or code", lambda: model.save_pretrained(scratch, state_dict={})),
            ("model's weights", lambda: _refuse_shared(model)),
        ):
            try:
                with _as_it_was(model.config):
                    save()
            except Exception as fault:
                if disk.refusal(fault) is not None:
                    raise
                message = f"the {what} cannot be saved: {gist(fault)}"
                raise ModelError(Problem(message, hint=_REPAIR, key=("model", "source"))) from fault


_REPAIR = "the run would end without a model: mend it in the model's folder, or name another model.source"


def _template_names(tokenizer: Any) -> Iterable[str]:
    templates: Any = getattr(tokenizer, "chat_template", None)
    return list(map(str, templates)) if isinstance(templates, dict) else []


@contextmanager
def _as_it_was(config: Any) -> Generator[None]:
    """Take back what saving writes into a configuration."""
    before = {name: getattr(config, name, None) for name in WRITTEN}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _refuse_shared(model: Any) -> None:
    """Raise where tensors share memory and the model does not say that they are tied."""
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    remove_tied_weights_from_state_dict(dict(model.state_dict()), model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a run writes, by estimate, in bytes."""

    checkpoint: int
    """One of them."""
    checkpoints: int
    """How many there are at once, one that is being written among them."""
    model: int
    """The final one."""
    there: int
    """What checkpoints and a model take already, of a run that goes on."""
    free: int

    @property
    def needed(self) -> int:
        """Beside what is there."""
        return max(0, self.checkpoint * self.checkpoints + self.model - self.there)

    def __str__(self) -> str:
        many = f"{self.checkpoints} checkpoints of {disk.size(self.checkpoint)} at once"
        one = f"a checkpoint of {disk.size(self.checkpoint)}"
        there = f", less {disk.size(self.there)} that are there" if self.there else ""
        which = one if self.checkpoints == 1 else many
        return f"{which} and a model of {disk.size(self.model)}{there}: {disk.size(self.needed)}"


def room(prepared: Prepared, folder: Path) -> Room:
    """What the run is going to write into its directory, and what is free there."""
    recipe, job, total = prepared.loaded.recipe, prepared.trainer.job, prepared.length.total_steps
    kept, every = recipe.checkpoints, recipe.checkpoints.every or total
    named = dict(prepared.model.named_parameters())
    trained = {name for group in prepared.update.groups for name in group.names}
    weights = sum(p.numel() * p.element_size() for name, p in named.items() if name in trained)
    made = -(-total // every) + bool(kept.keep_stable and job.stable)
    stay = kept.keep + kept.keep_stable + (recipe.evaluation.best is not None)
    return Room(
        checkpoint=weights + prepared.memory().optimizer,
        checkpoints=min(made, stay + 1),
        model=sum(p.numel() * job.formats.of(name, p).itemsize for name, p in named.items()),
        there=disk.bytes_in(folder / "checkpoints") + disk.bytes_in(folder / "model"),
        free=disk.free_bytes(folder),
    )


def refuse_full_disk(found: Room, folder: Path) -> None:
    """Raise `DiskError` where the disk has less room than the run is going to need."""
    if found.free >= found.needed:
        return
    message = f"the disk of '{folder}' has {disk.size(found.free)} free, and the run needs {found}"
    hint = "lower checkpoints.keep, free some space, or name another folder: --set run.output=…"
    raise DiskError(message, hint=hint)
