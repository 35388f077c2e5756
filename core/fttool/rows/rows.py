"""All rows of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fttool.contracts.rows import Example
from fttool.rows.gone import Flagged, Gone
from fttool.rows.lengths import Fitted
from fttool.rows.spooled import Spool
from fttool.rows.tokens import JoinedRows, TokenRows


@dataclass
class Rows:
    """All rows of a run."""

    train: TokenRows = field(default_factory=TokenRows)
    eval: TokenRows = field(default_factory=TokenRows)
    general: dict[str, TokenRows] = field(default_factory=dict[str, TokenRows])
    """What stands for what the model knew, by dataset."""
    retention: dict[str, TokenRows] = field(default_factory=dict[str, TokenRows])
    """The same, only measured, by dataset."""
    learned: JoinedRows = field(default_factory=JoinedRows)
    """What may be learned from: the training rows, and after them the general rows where mixing replays them."""
    learned_sizes: list[int] = field(default_factory=list[int])
    """Rows of each dataset in `learned`, in its order."""
    train_sizes: list[int] = field(default_factory=list[int])
    """Rows of each training dataset, in the recipe's order."""
    train_tokens: list[int] = field(default_factory=list[int])
    """Tokens of each training dataset."""
    dropped: Counter[str] = field(default_factory=Counter[str])
    """Rows that filters and rules have dropped, by reason."""
    dropped_tokens: Counter[str] = field(default_factory=Counter[str])
    """Tokens of dropped rows by the same reasons, of those that were dropped once they were tokenized."""
    changed: Counter[str] = field(default_factory=Counter[str])
    """Rows that filters have changed, by reason; one that two filters change counts twice."""
    flagged: Counter[str] = field(default_factory=Counter[str])
    """Rows that filters have found something in and left as they are, by reason."""
    truncated: int = 0
    """Rows that were cut at `max_length`."""
    lost: Counter[str] = field(default_factory=Counter[str])
    """What that has taken of them, by kind: tokens, learned tokens, words."""
    windowed: Counter[str] = field(default_factory=Counter[str])
    """Rows that were longer than `max_length` and made several, and how many parts they became: `rows`, `parts`."""
    sources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Path, hash and row count of each file, for `lock.json`."""
    eval_examples: Spool[Example] = field(default_factory=Spool[Example])
    """The evaluation rows before masking, for samples."""
    sampled: list[Example] = field(default_factory=list[Example])
    """Some of the rows that are learned from, before masking, chosen by the seed: what inference sees is compared with
    what training sees of them."""
    template_variables: dict[str, Any] = field(default_factory=dict[str, Any])
    """The variables for the chat template that all conversations that are learned from have with one value."""
    split: int = 0
    """Conversations that masking has made several rows of."""
    notices: list[str] = field(default_factory=list[str])
    """What a user should know of the datasets, in sentences."""
    gone: Spool[Gone] = field(default_factory=Spool[Gone])
    """Every row that was dropped or is bad."""
    noticed: Spool[Flagged] = field(default_factory=Spool[Flagged])
    """Every row that a filter has changed or flagged; one that two filters do has two entries."""

    def drop(self, gone: Gone, tokens: int = 0) -> None:
        """Count a row that is dropped, and its tokens where they are known."""
        self.gone.append(gone)
        self.dropped[gone.reason] += 1
        self.dropped_tokens.update({gone.reason: tokens} if tokens else {})

    def count_fitted(self, became: Fitted, too_long: bool) -> None:
        """Count a row that is `too_long`, once what it became is taken."""
        if too_long and not became.lost:
            self.windowed.update(rows=1, parts=len(became.rows))
        self.truncated += bool(became.lost)
        self.lost.update(became.lost)

    @property
    def measurable(self) -> bool:
        """True where there are rows to measure on."""
        return bool(len(self.eval) or self.retention)
