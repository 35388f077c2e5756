"""Loss scaling (fp16): an update whose gradients overflow is skipped, whatever the optimizer, and has its place.

A scaler multiplies the loss so that small gradients do not vanish in 16 bits. Where they overflow instead it leaves
weights and optimizer state as they are, and halves the scale. There is one clock, the update's number, and a skipped
update is one: its rows are seen, and schedule, freezing, evaluations and checkpoints go on.
"""

from __future__ import annotations

from typing import Any

from fttool.training.progress import Progress

SKIPPED_IN_A_ROW = 20
"""Updates that may be skipped before the run counts as diverged; the scale is halved at each."""


def let_the_scaler_decide(optimizer: Any) -> None:
    """Have torch's GradScaler unscale the gradients and skip the step, as with every other optimizer.

    One that says that its step does so itself (torch's fused ones) is called on overflow too, and nobody notices that
    it left the weights alone.
    """
    optimizer._step_supports_amp_scaling = False


def count(progress: Progress, skipped: bool) -> str | None:
    """Count an update as made or skipped; what to say where too many were skipped in a row."""
    progress.skipped += skipped
    progress.skipped_in_a_row = progress.skipped_in_a_row + 1 if skipped else 0
    if progress.skipped_in_a_row < SKIPPED_IN_A_ROW:
        return None
    return f"loss scaling skipped {SKIPPED_IN_A_ROW} updates in a row"


def go_on(scheduler: Any, update: int) -> None:
    """Let the schedule be where `update` updates are over, skipped ones too, which transformers leaves out."""
    while scheduler.last_epoch < update:
        scheduler.step()
