"""What a base model that never trains computes, kept: it then runs once per row, and an update costs the head alone.

Below a head that trains by itself, a row's hidden states are the same in every epoch. `Backbone.score` is the task's
own score on the model's own forward, in which only the base model's `forward` is one that hands out what is kept. So
what the model does above it (soft-capping, scaling, dropout before a classifier …) is its own, on any architecture.

Which places of which outputs the losses depend on is asked of autograd, for each row: a gradient of NaN at the losses
comes down as NaN wherever there is a way, whatever the weights are. Only these are kept. Each micro-batch is then
scored a second time with NaN in place of all others; where the losses differ, nothing is kept, and the run goes on
without.

All rows are computed before the first update, in micro-batches that depend on nothing but the rows, so that a resumed
run has the same features bit for bit. Whether they pay depends on the run's length: a run of one epoch that is made
longer when it resumes has them from then on, and differs in the last bits from one that had them from its start.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fttool.contracts.batches import RowGroup
from fttool.contracts.model import Features
from fttool.contracts.task import Predictions
from fttool.rows.loader import EpochLoader
from fttool.training.evaluation import Score, model_inputs
from fttool.training.passes import Batch, InPasses, in_one
from fttool.watch.watch import Watch

GB = 10**9

Places = NDArray[np.int64]
"""(B, T): which of all tokens stands in each slot of a micro-batch, −1 for padding."""


class NotKept(Exception):  # noqa: N818 - a decision, not an error
    """Why features are not kept."""


@dataclass(kw_only=True)
class Backbone:
    """The base model below a head that trains by itself."""

    bounds: Features
    task_score: Score
    loader: EpochLoader
    lengths: Sequence[int]
    """Tokens of each row."""
    visits: float
    """Rows that the run meets, each as often as it is met."""
    folder: Path
    """Where the file of features lies; it has no name there, and is gone with the process."""
    obstacle: str | None
    """Why this run cannot use features, where it is known beforehand."""
    kept: Kept | None = None

    def score(self, model: Any, batch: Mapping[str, Any]) -> Predictions:
        """The task's score; for training rows, on what is kept of them."""
        base = base_of(model)
        if base.training:
            base.eval()  # the trainer switches everything to training before each micro-batch
        tensors = {key: value for key, value in batch.items() if key != "places"}
        if self.kept is None or "places" not in batch:
            return self.task_score(model, tensors)
        outputs = self.kept.outputs(batch["places"], tensors["input_ids"].device)
        with _answering(base, lambda *_, **__: outputs):
            return self.task_score(model, tensors)

    def compute(
        self, model: Any, watch: Watch, stopped: Callable[[], bool], passes: InPasses = in_one
    ) -> dict[str, Any]:
        """Compute and keep the features of all rows, or say why not; returns what `events.jsonl` is to hold.

        Raises `KeyboardInterrupt` once it is told to stop.
        """
        began = time.perf_counter()
        try:
            self._refuse(model)
            self.loader.tell_places(list(accumulate(self.lengths, initial=0)))
            kept = self._run(model, watch, stopped, passes)
            difference = self._difference(model, kept, passes)
        except NotKept as reason:
            self.loader.tell_places(None)
            watch.note(f"the base model runs in each epoch: {reason}")
            return {"kept": False, "reason": str(reason)}
        self.kept, room = kept, kept.room
        sizes = [(room.in_memory, "in memory"), (room.in_file, "in a file")]
        shown = " and ".join(f"{_shown(size)} {place}" for size, place in sizes if size)
        watch.note(f"the base model has run once over {len(self.lengths):,} rows, and will not again: {shown}")
        seconds = round(time.perf_counter() - began, 3)
        held = {"memory_bytes": room.in_memory, "file_bytes": room.in_file}
        return {"kept": True, **held, "difference": difference, "seconds": seconds}

    def _refuse(self, model: Any) -> None:
        base = base_of(model)
        if self.bounds.memory_gb + self.bounds.disk_gb <= 0:
            raise NotKept("features are switched off")
        if self.obstacle is not None:
            raise NotKept(self.obstacle)
        if self.visits <= len(self.lengths):
            raise NotKept(f"the run meets {round(self.visits):,} rows of {len(self.lengths):,}, hardly one twice")
        if any(p.requires_grad for p in base.parameters()):
            raise NotKept("some of it trains")

    def _run(self, model: Any, watch: Watch, stopped: Callable[[], bool], passes: InPasses) -> Kept:
        kept = Kept(sum(self.lengths), Room(self.bounds, self.folder))
        model.train()
        with kept.room.files:  # what is mapped of them stays when they are closed
            for groups in watch.track(self.loader.all_rows(), "computing the features of all rows"):
                if stopped():
                    raise KeyboardInterrupt
                self._add(kept, model, groups, passes)
            kept.finish()
        return kept

    def _difference(self, model: Any, kept: Kept, passes: InPasses) -> float:
        """The largest one between the losses on what is kept and the model's own, in the first and last micro-batch.

        Raises `NotKept` where it is more than the other order of a sum makes.
        """
        device, worst = next(model.parameters()).device, 0.0

        def compared(batch: Batch) -> float:
            tensors = model_inputs(batch, device)
            with torch.no_grad(), _same_chance(model):
                own_N = self.task_score(model, tensors).losses_N
            outputs = kept.outputs(batch["places"], device)
            with torch.no_grad(), _same_chance(model), _answering(base_of(model), lambda *_, **__: outputs):
                found_N = self.task_score(model, tensors).losses_N
            if not torch.allclose(found_N, own_N, rtol=1e-3, atol=1e-4):
                raise NotKept(
                    f"what was kept gives other losses than the model, by {(found_N - own_N).abs().max():.2g}"
                )
            return float((found_N - own_N).abs().max())

        every = list(self.loader.all_rows())
        for groups in (every[0], every[-1]):
            worst = max(worst, *passes(self.loader.micro_batch(groups), compared))
        return worst

    def _add(self, kept: Kept, model: Any, groups: Sequence[RowGroup], passes: InPasses) -> None:
        """Compute and keep a micro-batch; the first one shows how much all of them will take."""
        first, device = not kept.room.used, next(model.parameters()).device
        batch = self.loader.micro_batch(groups)
        rows = list(chain.from_iterable(batch["rows"]))

        def observed(some: Batch) -> tuple[Observed, Places, list[int]]:
            tensors = model_inputs(some, device)
            return observe(self.task_score, model, tensors, some["places"]), some["places"], list(chain(*some["rows"]))

        for found in passes(batch, observed):
            kept.add(*found)
        if first:
            kept.room.refuse(kept.room.used * sum(self.lengths) / sum(self.lengths[row] for row in rows))


def base_of(model: Any) -> nn.Module:
    """The base model, also inside DistributedDataParallel."""
    return getattr(model, "module", model).base_model


@contextmanager
def _answering(base: nn.Module, answer: Callable[..., Any]) -> Generator[None]:
    """While open, `answer` stands in for the forward pass of `base`."""
    before = base.__dict__.get("forward")
    base.forward = answer
    try:
        yield
    finally:
        if before is None:
            del base.forward
        else:
            base.forward = before


# -- what the losses depend on -------------------------------------------------------------------------------------


@dataclass
class Output:
    """One of the base model's outputs on a micro-batch."""

    per: Literal["token", "row", "nothing"]
    """`token`: shape (B, T, D). `row`: (B, D). `nothing`: another shape, or no numbers at all; such cannot be kept."""
    value: Any
    read: NDArray[np.bool_] | None = None
    """(B, T) or (B,): the vectors on which the losses depend; None where they depend on none."""


@dataclass
class Observed:
    """The base model's outputs on a micro-batch."""

    tree: pytree.TreeSpec
    outputs: list[Output]

    def without_the_rest(self, places_BT: Places) -> Any:
        """The outputs with NaN in each vector that is not read, and 0 in padding: what depends on either will show."""
        return pytree.tree_unflatten([self._without(output, places_BT) for output in self.outputs], self.tree)

    def _without(self, output: Output, places_BT: Places) -> Any:
        if output.per == "nothing":
            return _placeholder(output.value)
        read = np.zeros(output.value.shape[: 2 if output.per == "token" else 1], bool)
        if output.read is not None:
            read |= output.read
        value = output.value.clone()
        value[torch.from_numpy(~read)] = torch.nan
        if output.per == "token":
            value[torch.from_numpy(places_BT < 0)] = 0
        return value


def observe(score: Score, model: Any, batch: Mapping[str, Any], places_BT: Places) -> Observed:
    """Run the base model, and find on which of its outputs the losses depend; `NotKept` where these cannot be kept."""
    base = base_of(model)
    base.eval()
    forward, calls = base.forward, list[Observed]()

    def watch(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            values, tree = pytree.tree_flatten(forward(*args, **kwargs))
        values = [value.detach().requires_grad_() if _is_float(value) else value for value in values]
        calls.append(Observed(tree, [Output(_per(value, places_BT), value) for value in values]))
        # Clones: the model may change them in place.
        return pytree.tree_unflatten([value.clone() if _is_float(value) else value for value in values], tree)

    with _same_chance(model), _answering(base, watch):
        losses_N = score(model, batch).losses_N
    if len(calls) != 1:
        raise NotKept(f"{type(model).__name__} calls its base model's forward {len(calls)} times, not once")
    [found] = calls
    numbers = [output for output in found.outputs if _is_float(output.value)]
    gradients = torch.autograd.grad(
        losses_N, [output.value for output in numbers], torch.full_like(losses_N, torch.nan), allow_unused=True
    )
    for output, gradient in zip(numbers, gradients, strict=True):
        _note_read(output, gradient)
    if all(output.read is None for output in found.outputs):
        raise NotKept("the losses do not depend on what it computes")
    with torch.no_grad():
        for output in numbers:
            output.value = output.value.detach()
        with _same_chance(model), _answering(base, lambda *_, **__: found.without_the_rest(places_BT)):
            again_N = score(model, batch).losses_N
    if not torch.allclose(losses_N, again_N):
        raise NotKept("the losses depend on more of it than their gradients show")
    return found


def _note_read(output: Output, gradient: Tensor | None) -> None:
    if gradient is None:
        return
    nan = gradient.isnan()
    if output.per == "nothing":
        if bool(nan.any()):
            raise NotKept(f"the losses depend on an output of the shape {tuple(gradient.shape)}")
        return
    read = nan.any(-1).cpu().numpy()
    output.read = read if read.any() else None


def _per(value: Any, places_BT: Places) -> Literal["token", "row", "nothing"]:
    if not _is_float(value):
        return "nothing"
    if value.ndim == 3 and tuple(value.shape[:2]) == places_BT.shape:
        return "token"
    return "row" if value.ndim == 2 and len(value) == len(places_BT) else "nothing"


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _placeholder(value: Any) -> Any:
    """Stands for an output that is not read: a number where there was a tensor, nothing where there was a cache."""
    return value.new_zeros(()) if isinstance(value, Tensor) else None


@contextmanager
def _same_chance(model: Any) -> Generator[None]:
    """Dropout in the head draws the same here each time, and the run's own random numbers are left alone."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


# -- what is kept --------------------------------------------------------------------------------------------------


@dataclass
class Kept:
    """The features of all rows; a vector is found by the number of its token among the tokens of all rows."""

    tokens: int
    """Of all rows."""
    room: Room
    tree: pytree.TreeSpec | None = None
    forms: list[Form] = field(default_factory=list["Form"])

    def add(self, found: Observed, places_BT: Places, rows: Sequence[int]) -> None:
        """Keep what is read of a micro-batch."""
        forms = [Form(output.per, _placeholder(output.value), _width(output)) for output in found.outputs]
        if self.tree is None:
            self.tree, self.forms = found.tree, forms
        if found.tree != self.tree or [form.shape for form in forms] != [form.shape for form in self.forms]:
            raise NotKept("its outputs differ in form from one micro-batch to the next")
        for form, output in zip(self.forms, found.outputs, strict=True):
            if output.read is None:
                continue
            if output.per == "row" and len(rows) != len(places_BT):
                raise NotKept("the head reads one vector per sequence, and several rows share one")
            # A padding slot may be read where it makes no difference, as in a mean under a mask.
            read = output.read & (places_BT >= 0) if output.per == "token" else output.read
            keys_N = places_BT[read] if output.per == "token" else _last(places_BT)[read]
            if form.vectors is None:
                form.vectors = Vectors(self.tokens, self.room)
            form.vectors.put(keys_N, output.value[torch.from_numpy(read).to(output.value.device)])

    def finish(self) -> None:
        """All rows have been added."""
        for form in self.forms:
            if form.vectors is not None:
                form.vectors.finish()

    def outputs(self, places_BT: Places, device: torch.device) -> Any:
        """The base model's outputs on a micro-batch, as far as they are kept; 0 elsewhere."""
        assert self.tree is not None
        return pytree.tree_unflatten([form.output(places_BT, device) for form in self.forms], self.tree)


@dataclass
class Form:
    """One of the base model's outputs, over all rows."""

    per: Literal["token", "row", "nothing"]
    placeholder: Any
    width: int
    vectors: Vectors | None = None

    @property
    def shape(self) -> tuple[str, int, torch.dtype | None]:
        """What is the same in all micro-batches."""
        return self.per, self.width, None if self.placeholder is None else self.placeholder.dtype

    def output(self, places_BT: Places, device: torch.device) -> Any:
        """What the base model would give for this output."""
        if self.per == "nothing":
            return self.placeholder
        keys = places_BT if self.per == "token" else _last(places_BT)
        if self.vectors is None:
            return self.placeholder.expand(*keys.shape, self.width)
        slots = self.vectors.slots[keys.ravel()]
        known = np.flatnonzero((slots >= 0) & (keys.ravel() >= 0))
        flat = torch.zeros(keys.size, self.width, dtype=self.placeholder.dtype, device=device)
        flat[torch.from_numpy(known).to(device)] = self.vectors.get(slots[known]).to(device)
        return flat.view(*keys.shape, self.width)


def _width(output: Output) -> int:
    return 0 if output.per == "nothing" else int(output.value.shape[-1])


def _last(places_BT: Places) -> NDArray[np.int64]:
    """(B,): the last token of each sequence, by which a vector of the whole sequence is known."""
    return places_BT.max(axis=1)


class Vectors:
    """Vectors of one width, some in memory and the others in a file, by the number of their token."""

    def __init__(self, tokens: int, room: Room) -> None:
        self.room = room
        self.slots = np.full(tokens, -1, np.int32)
        """Token → which vector, in the order in which they were put; −1 for none."""
        self.pieces: list[Tensor] = []
        self.file: IO[bytes] | None = None
        self.count = 0

    def put(self, tokens_N: NDArray[np.int64], values_ND: Tensor) -> None:
        """Keep the vectors of these tokens."""
        values_ND = values_ND.detach().cpu().contiguous()
        self.slots[tokens_N] = np.arange(self.count, self.count + len(tokens_N))
        self.count += len(tokens_N)
        if self.room.take(values_ND.nbytes):
            self.pieces.append(values_ND)
            return
        self.like = values_ND[:0]
        try:
            if self.file is None:
                self.file = self.room.files.enter_context(tempfile.TemporaryFile(dir=self.room.folder))  # noqa: SIM115
            self.file.write(values_ND.view(torch.uint8).numpy().data)
        except OSError as fault:
            raise NotKept(f"their file cannot be written: {fault.strerror or fault}") from fault

    def finish(self) -> None:
        """Map the file into memory, and learn where each piece ends."""
        if self.file is not None:
            self.file.flush()
            mapped = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_COPY)
            numbers = torch.frombuffer(mapped, dtype=self.like.dtype)
            self.pieces.append(numbers.view(-1, self.like.shape[1]))
        self.ends = np.cumsum([len(piece) for piece in self.pieces])

    def get(self, slots_N: NDArray[np.int32]) -> Tensor:
        """The vectors of these slots, (N, D)."""
        piece_N = np.searchsorted(self.ends, slots_N, side="right")
        first = self.pieces[0]
        values_ND = torch.empty(len(slots_N), first.shape[1], dtype=first.dtype)
        for piece in np.unique(piece_N):
            chosen = np.flatnonzero(piece_N == piece)
            within = slots_N[chosen] - (self.ends[piece] - len(self.pieces[piece]))
            values_ND[torch.from_numpy(chosen)] = self.pieces[piece][torch.from_numpy(within).long()]
        return values_ND


@dataclass
class Room:
    """How much may be kept, and where."""

    bounds: Features
    folder: Path
    in_memory: int = 0
    in_file: int = 0
    """Bytes."""
    files: ExitStack = field(default_factory=ExitStack)
    """Those that are being written."""

    @property
    def used(self) -> int:
        """Bytes in memory and in the file."""
        return self.in_memory + self.in_file

    def take(self, size: int) -> bool:
        """Take so many bytes: True in memory, False in the file, `NotKept` where there is no room left."""
        if not self.in_file and self.in_memory + size <= self.bounds.memory_gb * GB:
            self.in_memory += size
            return True
        self.in_file += size
        if self.in_file > self.bounds.disk_gb * GB:
            raise NotKept(f"its features take more than the {self._allowed()}")
        return False

    def refuse(self, expected: float) -> None:
        """Raise `NotKept` where all features will not find room, before most of them are computed."""
        beyond = expected - self.bounds.memory_gb * GB
        if beyond > self.bounds.disk_gb * GB:
            raise NotKept(f"its features would take about {_shown(expected)}, more than the {self._allowed()}")
        free = shutil.disk_usage(self.folder).free
        if beyond > free:
            message = f"its features would take about {_shown(expected)}, and '{self.folder}' has {_shown(free)} left"
            raise NotKept(message)

    def _allowed(self) -> str:
        return f"{self.bounds.memory_gb:g} GB in memory and {self.bounds.disk_gb:g} GB on disk that are allowed"


def _shown(size: float) -> str:
    return f"{size / GB:,.1f} GB" if size >= GB else f"{size / 10**6:,.1f} MB"
