"""Answers as SQuAD's evaluation compares them: what does not make an answer another one is left out of the text.

Lower case, no punctuation, no English articles, single spaces, in this order (Rajpurkar et al. 2016, arXiv 1606.05250,
and their evaluation script).
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ARTICLES = re.compile(r"\b(a|an|the)\b")
UNPUNCTUATED = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """The text as it is compared."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(UNPUNCTUATED)).split())


def sum_and_count(scores: Sequence[float]) -> Tensor:
    """Σ scores and how many there are, float64, shape (2,)."""
    import torch

    return torch.tensor([sum(scores), len(scores)], dtype=torch.float64)


def mean(total: Tensor) -> float:
    """Of (Σ scores, count); 0 of nothing."""
    scores, count = total.tolist()
    return scores / count if count else 0.0
