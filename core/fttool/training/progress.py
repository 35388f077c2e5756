"""What core counts over a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What core counts over a run; saved with each checkpoint."""

    train_tokens: int = 0
    """Tokens seen, padding not counted."""
    label_tokens: int = 0
    """Labels learned."""
    seconds: float = 0.0
    """Time spent in updates, without evaluation and saving."""
    fits: dict[str, int] = field(default_factory=dict[str, int])
    """Sequences that go through the model at once, where memory ran out on more: in `training`, `evaluation` and for
    `features`."""
    seen_rows: list[int] = field(default_factory=list[int])
    """Rows seen of each dataset that is learned from."""
    seen_tokens: list[int] = field(default_factory=list[int])
    """Tokens seen of each of them."""
    proof: dict[str, Any] = field(default_factory=dict[str, Any])
    """Figures of the proof before the first update."""
    before: dict[str, float] = field(default_factory=dict[str, float])
    """Metrics before the first update."""
    retention_before: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Metrics on each retention dataset before the first update."""
    answers_before: list[str] = field(default_factory=list[str])
    """The model's answers to the sampled evaluation prompts before the first update."""
    answers_after: list[str] = field(default_factory=list[str])
    """And those of the final model."""
    answering: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the answers that metrics have looked at: how many, their tokens, the seconds that they took, and why they were
    given one by one, where they were."""
    latest: dict[str, float] = field(default_factory=dict[str, float])
    tables: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the latest evaluation has to say beside its numbers."""
    remarks: dict[str, str] = field(default_factory=dict[str, str])
    """What it has to say of them, by metric."""
    retention_latest: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    latest_step: int = 0
    best: float | None = None
    best_step: int | None = None
    """0 where no update has made the model better than it was before the first."""
    worse_in_a_row: int = 0
    stopped_early: bool = False
    skipped: int = 0
    """Updates that loss scaling skipped."""
    skipped_in_a_row: int = 0
    logged_step: int = 0
    """The last update of which a line was logged."""
    unlogged_loss: float = 0.0
    """Sum of the losses since then, for the next line."""
    unlogged_terms: dict[str, float] = field(default_factory=dict[str, float])
    """And of the terms beside them."""
