"""From rows to micro-batches: mixing orders the rows of an epoch, batching groups them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import Field
from typing_extensions import override

from fttool.contracts.rows import Encoded
from fttool.contracts.strategy import Context, Place, Strategy
from fttool.errors import Problem

if TYPE_CHECKING:
    from fttool.contracts.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class MixingContext(Context):
    """What a mixing strategy gets."""

    sizes: Sequence[int]
    """Rows of each training dataset, in the recipe's order; row i of dataset d has index sum(sizes[:d]) + i."""
    tokens: Sequence[int]
    """Tokens of each training dataset."""
    names: Sequence[str] = ()
    """The training datasets' names."""
    general_sizes: Sequence[int] = ()
    """Rows of each general dataset, for a strategy that replays them: row i of dataset d has index sum(sizes) +
    sum(general_sizes[:d]) + i. Empty for others."""
    lengths: Sequence[int] = ()
    """Tokens of each row, after truncation: the training rows, then the general ones."""


RowOrder: TypeAlias = Callable[[int], Sequence[int]]
"""epoch (from 0) → the row indices of that epoch in the order in which they are seen; the same length every epoch."""


class Mixing(Strategy):
    """How several datasets become one stream of rows."""

    family = "mixing"
    place = Place("mixing", default="concatenate")

    @property
    def uses_general(self) -> bool:
        """True where general rows are replayed; else they stay out of training, and out of the context."""
        return False

    @property
    def same_rows(self) -> bool:
        """True where every epoch has the same rows, in whatever order; some batching strategies need that."""
        return True

    @abstractmethod
    def build(self, ctx: MixingContext) -> RowOrder:
        """Yield a pure function from the epoch to its row indices, shuffled by the seed."""


@dataclass(frozen=True, kw_only=True)
class BatchingContext(Context):
    """What a batching strategy gets."""

    lengths: Sequence[int]
    """Tokens of each row, after truncation."""
    micro_batch: int
    """Sequences per forward pass and process."""
    global_batch: int
    """Sequences per update, over all processes and accumulation steps."""
    pad_id: int
    """The token that fills a sequence up to the length of its micro-batch."""
    attention: str = "eager"
    """transformers' attention implementation of the model: `sdpa`, `flash_attention_2` …"""


RowGroup: TypeAlias = Sequence[int]
"""The rows that share one sequence: one row, or several when packed."""


class Batches(Protocol):
    """What a batching strategy yields."""

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """The micro-batches of one epoch: each a list of at most `micro_batch` sequences.

        Consecutive `global_batch / micro_batch` micro-batches are one update. The same number every epoch.
        """
        ...

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Any]:
        """One micro-batch (B sequences of one or more rows) as tensors (B, T): `input_ids`, `labels` (the first
        token of each row is −100, as nothing predicts it), and `attention_mask` or `position_ids`.

        Or all of its rows as one sequence, (1, N) for N tokens, with what an attention of variable length asks for:
        `position_ids`, `cu_seq_lens_q`, `cu_seq_lens_k`, `max_length_q`, `max_length_k`, as transformers names them.
        """
        ...


class Batching(Strategy):
    """How rows become micro-batches."""

    family = "batching"
    place = Place("batching", default="bucketed")

    max_length: Annotated[int, Field(ge=2)] = 1024
    """Longest sequence, in tokens."""
    too_long: Literal["truncate", "drop", "split"] = "truncate"
    """What becomes of a row of more than `max_length` tokens: cut off, dropped, or made several rows, of which none
    loses a token (`split`). A conversation is split at its turns, each part with the system turn in front; a text, and
    an exchange that is itself too long, into windows. Rows and tokens are counted either way."""
    truncate: Literal["keep_start", "keep_end", "whole_turns"] = "keep_start"
    """What is kept of a row that is cut off: its first tokens, its last ones, or as many of a conversation's first
    exchanges as fit (`whole_turns`: no turn is cut; plain text keeps its first tokens)."""
    overlap: Annotated[int, Field(ge=1)] = 1
    """With `split`, tokens of a window that the next one begins with: they are read there, and learned once. A row's
    first token is never learned, as nothing predicts it; so one token at least is repeated."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        ways = {"too_long": self.too_long == "split", "truncate": self.truncate != "keep_start"}
        if recipe.task.learns not in (None, "token"):
            for option in (option for option, is_set in ways.items() if is_set):
                message = f"{option} = {getattr(self, option)!r} is for rows whose tokens are learned"
                hint = "texts that are classified are cut at the end, before the special token there"
                yield Problem(message, hint=hint, key=("batching", option))
        if self.overlap >= self.max_length:
            hint = f"set it below max_length = {self.max_length}"
            yield Problem("overlap leaves no new token in a window", hint=hint, key=("batching", "overlap"))

    @property
    def needs_same_rows(self) -> bool:
        """True where the number of micro-batches depends on which rows an epoch has, not only on how many."""
        return False

    @abstractmethod
    def build(self, ctx: BatchingContext) -> Batches:
        """Yield the sampler and collator in one object."""
