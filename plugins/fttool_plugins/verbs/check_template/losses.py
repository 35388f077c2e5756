"""The loss of a run's rows under its own final model, and under the weights that somebody else has.

The tokens are those of training on both sides, so a difference is one of weights: another checkpoint is served, an
adapter is missing, a position embedding is read in another way, or a number format is too coarse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool.api import Encoded
from fttool_plugins.verbs.check_template.others import Other

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCES = {8: 0.02, 6: 0.1, 5: 0.1, 4: 0.2, 3: 0.5, 2: 0.5, 1: 0.5}
"""By the bits of a weight: how far the mean loss may be from that of training, in nats per token. Of the built-in
model, which is far smaller than those that are quantized with profit, 8 bits move it by 0.002, 5 by 0.03, 4 by 0.06."""
FLOAT = {"32": 0.01, "16": 0.01, "bf16": 0.02}
"""The same for floats. llama.cpp keeps keys and values in float16 whatever the weights are."""


@dataclass(frozen=True, slots=True)
class Losses:
    """A mean loss of both, over the same learned tokens, in nats per token."""

    rows: int
    """Rows with tokens that were compared."""
    tokens: int
    """Learned tokens that were compared."""
    silent: int
    """Further ones of which the other side says nothing."""
    training: float
    """Under the run's final model."""
    theirs: float
    """Under the other side's weights."""
    number_format: str
    """That of its weights, as it calls it; empty where it does not say."""
    own_format: str
    """That of the run's model."""
    tolerance: float
    """How far the two may be apart: as the coarser of both formats allows."""

    @property
    def differ(self) -> bool:
        """True where they are further apart than that."""
        return not abs(self.training - self.theirs) <= self.tolerance


def compared_losses(rows: Iterable[Encoded], model: PreTrainedModel, other: Other, most: int) -> Losses | None:
    """Over the first `most` learned tokens of rows; None where the other side has no log-probabilities."""
    count, silent = 0, 0
    pairs: list[tuple[float, float]] = []
    for row, places in _learned(rows, most):
        theirs = other.log_probabilities(row.input_ids, places)
        if not theirs:
            return None
        ours = log_probabilities(model, row.input_ids, places)
        told = [(mine, yours) for mine, yours in zip(ours, theirs, strict=True) if yours is not None]
        silent += len(places) - len(told)
        count += bool(told)
        pairs += told
    if not pairs:
        return None
    own = str(model.dtype).removeprefix("torch.")
    return Losses(
        rows=count,
        tokens=len(pairs),
        silent=silent,
        training=-sum(mine for mine, _ in pairs) / len(pairs),
        theirs=-sum(yours for _, yours in pairs) / len(pairs),
        number_format=other.number_format,
        own_format=own,
        tolerance=max(tolerance(other.number_format), tolerance(own)),
    )


def _learned(rows: Iterable[Encoded], most: int) -> Iterator[tuple[Encoded, list[int]]]:
    """Rows with the places of their learned tokens, until there are `most` of these; nothing predicts a first token."""
    for row in rows:
        places = [at for at, label in enumerate(row.labels) if label != -100 and at][:most]
        most -= len(places)
        if places:
            yield row, places
        if not most:
            return


def log_probabilities(model: PreTrainedModel, ids: Sequence[int], places: Sequence[int]) -> list[float]:
    """Of the tokens at these places of a row under a model, in nats; the row is computed alone."""
    import torch

    forward: Any = model
    with torch.no_grad():
        logits_TV = forward(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0]
        chosen_NV = logits_TV[torch.tensor(places) - 1].float().log_softmax(-1)
        targets_N = torch.tensor([ids[place] for place in places], device=model.device)
        return chosen_NV.gather(1, targets_N[:, None])[:, 0].tolist()


def tolerance(number_format: str) -> float:
    """How far losses may be apart where weights are in this format: `float32`, `all F32`, `Q4_K - Medium` …"""
    name = number_format.lower()
    if bits := re.search(r"(?:q|fp|float)(\d)(?!\d)", name):
        return TOLERANCES.get(int(bits[1]), TOLERANCES[8])
    if "bf" in name or not name:
        return FLOAT["bf16"]
    return FLOAT["16"] if "16" in name else FLOAT["32"]
