"""From a file to tokens: readers, formats, filters and masking."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

from fttool.contracts.strategy import Context, Level, Levels, Place, Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fttool.contracts.model import Source


Message: TypeAlias = Mapping[str, Any]
"""One turn as the chat template sees it: `role`, `content`, and what else the template knows (`tool_calls` …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row, whatever its format was: a conversation (`messages`), plain text (`prompt` + `completion`), text with
    its classes or a number (`prompt`, `second`, `labels`), or text whose words have classes (`prompt`, `words`,
    `labels`).
    """

    origin: str
    """`file:line`, for messages to people."""
    messages: tuple[Message, ...] = ()
    """The turns of a conversation; empty for plain text."""
    completion_from: int = 0
    """Index of the first turn that belongs to the completion; the turns before it are the prompt."""
    prompt: str = ""
    """Plain text that is read and not learned."""
    completion: str = ""
    """Plain text that is learned; the whole of a `text` row."""
    template: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More for the chat template: `tools`, `documents`, `enable_thinking` …"""
    second: str = ""
    """The second text of a row about two, e.g. a hypothesis beside its premise; only with `labels`."""
    labels: tuple[str, ...] | None = None
    """Names of the row's classes; None for a row without classes, which is not the same as none of them. Where a number
    is learned, this number in text; where words have classes, that of each of the `words`."""
    words: tuple[tuple[int, int], ...] = ()
    """Where each word that has a class begins and ends (exclusive) in `prompt`, in characters, from left to right."""
    unlearned: frozenset[int] = frozenset()
    """Indices of turns that are read and not learned, whoever speaks and whatever the masking: the rows say so."""

    def answer(self) -> str:
        """The text by which a row is judged: what a model is asked to learn of it (the completion, or the assistant's
        turns joined by blank lines, but for those that are not learned); of a row with classes, its text.
        """
        if self.labels is not None:
            return f"{self.prompt}\n\n{self.second}" if self.second else self.prompt
        if not self.messages:
            return self.completion
        learned = [turn for index, turn in enumerate(self.messages) if index not in self.unlearned]
        return "\n\n".join(str(m.get("content") or "") for m in learned if m.get("role") == "assistant")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row in tokens."""

    input_ids: list[int]
    """Token ids, shape (T,)."""
    labels: list[int]
    """Shape (T,): the token's own id where it is learned, −100 elsewhere (not shifted)."""
    classes: tuple[str, ...] | None = None
    """The row's `labels`, where those are learned and not its tokens; of words, those that are left in `words`."""
    words: list[int] | None = None
    """Shape (T,): which of `classes` each token's word has, from 0, and −1 for a token of none; each has a token."""
    token_types: list[int] | None = None
    """Shape (T,): which of two texts each token is of, for models that tell them apart."""
    cut: bool = False
    """True where the row is longer and masking itself has cut it."""
    lost: Mapping[str, int] = field(default_factory=dict[str, int])
    """What the cut has taken, by kind in the plural: `{"tokens": 30, "words": 12}`."""
    turns: tuple[int, ...] = ()
    """Indices of the messages that are learned, in their order; empty where masking does not go by turns."""
    remarks: tuple[str, ...] = ()
    """What people should know of the row, in words that follow a count of rows: `teaching an empty thought`."""
    literal: bool = False
    """True where text that reads like a control token was encoded as text: it is compared with no prompt of inference,
    which may read the token in it."""


@dataclass(frozen=True, kw_only=True)
class ReaderContext(Context):
    """What a reader gets."""

    note: Callable[[str], None] = lambda _: None
    """Counts what the reader does that the rows' author should know, by a few words: "files read as latin-1"."""


RawRows: TypeAlias = Generator[tuple[str, Mapping[str, Any]]]
"""Raw rows, each behind its origin for messages to people: `file:line`, or `file` where that is one row. Their values
are those of JSON."""


RowSource: TypeAlias = Callable[[Path], RawRows]
"""A file or folder → its raw rows, in one order, read as they are asked for; raises `DataError` for what is broken."""


class Reader(Strategy):
    """How raw rows come out of a file or folder."""

    family = "reader"
    place = Place("data.*.reader", default="auto")
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of the files that it reads, packed or not."""

    @abstractmethod
    def build(self, ctx: ReaderContext) -> RowSource:
        """Yield a function from a path to its raw rows."""


@dataclass(frozen=True, kw_only=True)
class FormatContext(Context):
    """What a format gets."""

    origin: str
    """The file's or dataset's name."""
    level: Level | None = None
    """What the recipe's task learns of a row, see `Strategy.level`."""
    chat: bool | None = None
    """Whether the run's tokenizer has a chat template; None where no tokenizer is known, as for `fttool validate`."""
    note: Callable[[str], None] = lambda _: None
    """Counts what the format does to a row that its author should know, by a few words: "leading turn left out"."""


@dataclass(frozen=True, slots=True)
class FormatTrial:
    """What one format makes of the first rows of a dataset."""

    format: Format
    """With no option set."""
    refused: Mapping[int, str]
    """The rows that it does not read, by their index, with a sentence that says why."""
    lossy: frozenset[int]
    """Those of them that it could read, but for columns that mean something and would be left unread."""
    unread: Mapping[str, int]
    """Columns that it leaves unread in those that it reads, and in how many; they mean nothing that is known."""


@dataclass(frozen=True, slots=True)
class FormatLook:
    """The first rows of a dataset, for a format that chooses."""

    origins: Sequence[str]
    """`file:line` of each row."""
    trials: Sequence[FormatTrial]
    """Of each format that serves the recipe's task and needs no option; built-in ones come first."""
    columns: Mapping[str, int] = field(default_factory=dict[str, int])
    """The rows' columns, and how many rows have each."""
    broken: Mapping[str, str] = field(default_factory=dict[str, str])
    """Plugins whose formats cannot be tried, by name, with the reason."""


RowReader: TypeAlias = Callable[[Mapping[str, Any], str], Example]
"""(raw row, its origin `file:line`) → Example; raises `ValueError` with a sentence for a bad row."""


class Format(Strategy):
    """How a raw row becomes an `Example`. An option that names a column takes a path too, where rows come from a run:
    `data.messages`.
    """

    family = "format"
    place = Place("data.*.format", default="messages")
    level: ClassVar[Levels] = "token"
    example: ClassVar[Mapping[str, Any]] = {}
    """A row that it reads with no option set, or with those that must be; `fttool formats` shows it."""
    chooses: ClassVar[bool] = False
    """True for a format whose place another one takes, by a look at the first rows: `settle` says which."""

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether a raw row that it reads is written for it. Those who choose a format by the rows, as `auto` does,
        pass over one that says no; a recipe that names it reads the row all the same. Default: whatever it reads.

        For a format that takes rows of other shapes too, or whose columns mean something else to others.
        """
        return True

    def settle(self, look: Callable[[], FormatLook]) -> tuple[Format, str]:
        """The format that takes this one's place in the recipe, and why, in words that follow its name.

        Asked once for each dataset, where it `chooses`; raises `ValueError` with a sentence where no format fits.
        """
        return self, ""

    @abstractmethod
    def build(self, ctx: FormatContext) -> RowReader:
        """Yield a function from a raw row and its origin to an `Example`; it raises `ValueError` for a bad row."""


_Result = TypeVar("_Result")


class Each(Protocol):
    """Does one thing to each row, by all processors, and shows how far it is."""

    def __call__(
        self, function: Callable[[Example], _Result], examples: Sequence[Example], what: str
    ) -> Iterable[_Result]:
        """What the function makes of each row, in order; `what` is done to them, e.g. "looking for markup"."""
        ...


def _one_by_one(function: Callable[[Example], _Result], examples: Sequence[Example], what: str) -> Iterable[_Result]:
    return map(function, examples)


@dataclass(frozen=True, kw_only=True)
class FilterContext(Context):
    """What a filter gets."""

    tokenizer: PreTrainedTokenizerBase
    """With the chat template the recipe asked for."""
    tokens: Callable[[Example], int]
    """A row's length in tokens, all of it and before anything is cut; raises `ValueError` where the chat template
    cannot write it."""
    measured: Callable[[Example], bool]
    """True for a row that is measured on: its content is that of an evaluation or retention row, or `data.eval_share`
    will set it aside. Core keeps such rows from being learned; a filter may keep others from resembling them."""
    measured_rows: Sequence[Example] = ()
    """The rows of the recipe's evaluation and retention datasets; those that `data.eval_share` will set aside are among
    the rows themselves."""
    each: Each = _one_by_one
    """For a filter that judges each row by itself: processes share the rows, as `data.workers` says. The function sees
    what was there before it was called, keeps nothing for the next row, and returns what can be pickled, as verdicts
    can."""
    source: Callable[[], Source]
    """Yields the loaders of the recipe's model, for a filter that asks it: as it is before training."""
    cache: Callable[[], Path]
    """Makes and returns a folder of the filter's own, `filters/<id>` in the user's cache: what took long to compute can
    wait there for the next run, under a hash of what it was computed from. It may be emptied at any time."""


class Reason(str):
    """A verdict's few words that also say which other row is meant, or how bad it is: for those who look at the rows.

    It counts as the words that it is.
    """

    like: str
    """`file:line` of the row that this one is like; empty where it is about this row alone."""
    severity: float
    """How bad the row is, among those of the same filter; of rows that are shown, the greater ones come first."""

    def __new__(cls, words: str, *, like: str = "", severity: float = 0.0) -> Reason:
        """The words, and what is to be known beside them."""
        made = super().__new__(cls, words)
        made.like, made.severity = like, severity
        return made


@dataclass(frozen=True, slots=True)
class Kept:
    """A filter's verdict on a row that is kept and counted: as changed where it has an `example`, else as flagged."""

    reason: str
    """What was found, in a few words."""
    example: Example | None = None
    """What takes the row's place, with the row's own `origin`: the later filters see it, and it is learned."""


Verdict: TypeAlias = str | Kept | None
"""A filter's word on a row: None keeps it, a short reason drops it, `Kept` keeps it changed or flagged."""

RowFilter: TypeAlias = Callable[[Sequence[Example]], Sequence[Verdict]]
"""Examples → one verdict each."""


class Filter(Strategy):
    """Which rows are kept, and in which form. Filters apply in the order of the recipe."""

    family = "filter"
    place = Place("filters", default=None, many=True)

    @property
    def slow(self) -> bool:
        """True where it takes long by its options, and always where it computes with the recipe's model (`ctx.source`):
        rows that are kept for the next run then hang on the model too. Who asks all filters that there are, as `fttool
        audit` does, asks such a one only on demand.
        """
        return False

    @abstractmethod
    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a function from examples to one verdict each: None keeps the row, a short reason drops it, and `Kept`
        keeps it changed or flagged.
        """


class ChatTemplateError(ValueError):
    """Raised for a row that the chat template writes wrong: no change of the row would help, another template would."""


@dataclass(frozen=True, kw_only=True)
class MaskingContext(Context):
    """What a masking strategy gets."""

    tokenizer: PreTrainedTokenizerBase
    """With the chat template the recipe asked for."""
    max_length: int | None = None
    """Tokens that batching leaves of a row. It cuts longer ones at the end; a masking strategy may cut better."""


RowEncoder: TypeAlias = Callable[[Example], Encoded]
"""Example → tokens and labels; raises `ValueError` with a sentence where no right mask can be found, and
`ChatTemplateError` where the chat template is to blame for that and not the row."""


class Masking(Strategy):
    """Which tokens of a row are learned, or which classes."""

    family = "masking"
    place = Place("masking", default="assistant")
    level: ClassVar[Levels] = "token"

    @property
    def keeps_control_tokens(self) -> bool:
        """Where classes are learned: True where text that reads like a control token is one, and not text or refused.

        A classifier is then asked as it was trained.
        """
        return False

    def split(self, example: Example) -> Sequence[Example]:
        """The rows that an example becomes, in order; the encoder gets each of them. By default it stays one.

        Each has an `origin` of its own (`file:line#3`), and as `completion_from` the first turn that it teaches.
        """
        return (example,)

    @abstractmethod
    def build(self, ctx: MaskingContext) -> RowEncoder:
        """Yield a function from an `Example` to its tokens and labels."""
