"""What an audit has found, as plain values: the screen, the page and `--json` show the same ones.

`as_data` is the object that `--json` prints; its keys are the fields below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A row that is shown."""

    row: str
    """`file:line`."""
    excerpt: str
    """The beginning of its prompt and of its answer."""
    reason: str = ""
    """Why it is shown."""
    like: str = ""
    """`file:line` of the row that it is like, where a filter says so."""
    also: Sequence[str] = ()
    """Other filters that suspect it."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What was read of one dataset."""

    part: str
    """`train`, `eval`, `general` or `retention`."""
    name: str
    format: str
    rows: int
    """Good rows."""
    left_out: Mapping[str, int]
    """Good rows that their own marks keep from being learned, by reason."""
    bad: int
    """Rows that cannot be read."""
    bad_rows: Sequence[Shown]
    """The first of them, with what is wrong."""
    notices: Sequence[str]
    """What is to be known of it."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The training rows in tokens, each of them whole."""

    rows: int
    """Those that were counted: all, or a sample of the seed."""
    of: int
    """Training rows that there are."""
    total: int
    learned: int
    """Tokens with a label; 0 where classes are learned."""
    learned_share: float
    quantiles: Mapping[str, int]
    """Length of rows: `shortest`, `median`, `90%`, `99%`, `longest`."""
    lengths: Sequence[int]
    """Rows by length, in twenty steps of equal width from 0 to the longest."""
    max_length: int
    too_long: str
    """What becomes of longer rows: `truncate`, `drop` or `split`."""
    long_rows: int
    """Rows longer than `max_length`."""
    cut_tokens: int
    """Tokens that are cut off; where whole turns are kept there are more."""
    cut_learned: int
    """Learned ones among them."""
    dropped: Mapping[str, int]
    """Rows that a run would drop, by reason."""
    unmasked: int
    """Rows in which it cannot be told what is learned: a run ends on them, or drops them as bad rows."""
    unmasked_rows: Sequence[Shown]
    """The first of them, with what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Turns:
    """The conversations among the training rows."""

    rows: int
    mean: float
    """Turns of a row."""
    most: int
    roles: Mapping[str, int]
    """Turns by who speaks."""
    system: int
    """Rows that begin with a system turn."""


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """What one filter says of the training rows."""

    filter: str
    """Its id."""
    about: str
    """What it looks for, in its own words."""
    rows: int
    share: float
    reasons: Mapping[str, int]
    worst: Sequence[Shown]
    """At most ten: those come first that the filter finds worst, then those that most other filters suspect too."""
    origins: frozenset[str] = field(default=frozenset(), repr=False)
    """`file:line` of all of them; `--json` leaves it out."""


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Rows of which there are several, character for character."""

    rows: int
    """Those that say what another row says, the first of each kind not counted."""
    examples: Sequence[Shown]
    """The most frequent, with their number as the reason."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Training rows that are measured on too."""

    measured: int
    """Evaluation and retention rows."""
    rows: int
    """Training rows that are the same, prompt and answer; a run drops these."""
    prompts: int
    """Training rows with the same prompt, but for case and white space, and another answer; a run keeps these."""
    examples: Sequence[Shown]


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """A number for the whole of the rows."""

    name: str
    value: float | None
    """None where it could not be computed; `says` tells why."""
    says: str
    """What it is here, in a sentence."""
    computed: str
    """What it is computed from."""
    blind: str
    """What it cannot see."""
    rows: Sequence[Shown] = ()
    """Rows that pull it down."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something to be known that is about no single row."""

    message: str
    source: str
    """Where the rule comes from."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do next."""

    filter: str
    rows: int
    do: str
    """What to do."""
    gain: float | None = None
    """How much lower the held-out loss is without these rows; None where it was not measured."""
    noise: float | None = None
    """Standard error of the gain over the seeds."""
    verdict: str = ""
    """The gain in words."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of it."""

    source: str
    """The recipe or the file."""
    how: str
    """How the rows were read."""
    model: str
    """Whose tokenizer counted."""
    task: str
    datasets: Sequence[Dataset]
    train_rows: int
    tokens: Tokens
    turns: Turns | None
    """None where no row is a conversation."""
    classes: Mapping[str, int]
    """Training rows, or words, of each class."""
    suspects: Sequence[Suspects]
    """By filter, the one that suspects most first."""
    not_run: Mapping[str, str]
    """Filters that were not asked, and why."""
    clean: int
    """Training rows that no filter suspects."""
    repeated: Repeated
    overlap: Overlap
    indicators: Sequence[Indicator]
    findings: Sequence[Finding]
    steps: Sequence[Step]
    """What to do next, in order."""
    order: str
    """By what the steps are in order."""
    seconds: float


def as_data(report: Report) -> dict[str, Any]:
    """The object that `--json` prints."""
    data = asdict(report)
    for suspects in data["suspects"]:
        del suspects["origins"]
    return data
