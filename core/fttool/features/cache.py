"""What is kept of a base model's outputs: vectors by the number of their token, in memory and in a file."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from fttool.contracts.model import Features
from fttool.features.observed import NotCached, Observed, Output, Places, placeholder

GB = 10**9


@dataclass
class FeatureCache:
    """The features of all rows; a vector is found by the number of its token among the tokens of all rows."""

    tokens: int
    """Of all rows."""
    room: Budget
    tree: pytree.TreeSpec | None = None
    forms: list[Form] = field(default_factory=list["Form"])

    def add(self, observed: Observed, places_BT: Places, rows: Sequence[int]) -> None:
        """Keep what is read of a micro-batch."""
        forms = [Form(output.per, placeholder(output.value), _width(output)) for output in observed.outputs]
        if self.tree is None:
            self.tree, self.forms = observed.tree, forms
        if observed.tree != self.tree or [form.shape for form in forms] != [form.shape for form in self.forms]:
            raise NotCached("its outputs differ in form from one micro-batch to the next")
        for form, output in zip(self.forms, observed.outputs, strict=True):
            if output.read is None:
                continue
            if output.per == "row" and len(rows) != len(places_BT):
                raise NotCached("the head reads one vector per sequence, and several rows share one")
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
    """(B,): the last token of each sequence, by which a vector of the sequence is known."""
    return places_BT.max(axis=1)


class Vectors:
    """Vectors of one width, some in memory and the others in a file, by the number of their token."""

    def __init__(self, tokens: int, room: Budget) -> None:
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
            raise NotCached(f"their file cannot be written: {fault.strerror or fault}") from fault

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
class Budget:
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
        """Take so many bytes: True in memory, False in the file, `NotCached` where there is no room left."""
        if not self.in_file and self.in_memory + size <= self.bounds.memory_gb * GB:
            self.in_memory += size
            return True
        self.in_file += size
        if self.in_file > self.bounds.disk_gb * GB:
            raise NotCached(f"its features take more than the {self._allowed()}")
        return False

    def refuse(self, expected: float) -> None:
        """Raise `NotCached` where all features will not find room, before most of them are computed."""
        beyond = expected - self.bounds.memory_gb * GB
        if beyond > self.bounds.disk_gb * GB:
            raise NotCached(f"its features would take about {shown(expected)}, more than the {self._allowed()}")
        free = shutil.disk_usage(self.folder).free
        if beyond > free:
            message = f"its features would take about {shown(expected)}, and '{self.folder}' has {shown(free)} left"
            raise NotCached(message)

    def _allowed(self) -> str:
        return f"{self.bounds.memory_gb:g} GB in memory and {self.bounds.disk_gb:g} GB on disk that are allowed"


def shown(size: float) -> str:
    """Bytes for people."""
    return f"{size / GB:,.1f} GB" if size >= GB else f"{size / 10**6:,.1f} MB"
