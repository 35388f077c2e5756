"""Confident learning: which labels are wrong, from probabilities alone (Northcutt et al. 2021, arXiv 1911.00068).

A row counts for a class where its probability is at least the mean probability of that class among the rows that have
it as their label; so classes of which a model is less sure in general are not held against it. A row that counts for
another class than its own, and more surely, is a suspect.
"""

from __future__ import annotations

import torch
from torch import Tensor


def suspects(probabilities: Tensor, given: Tensor, confidence: float = 1.0) -> Tensor:
    """For each row the class that it counts for instead of its own, and −1 where there is none. Shape (N,).

    `probabilities` (N, C) are of models that have not learned from the row; `given` (N,) are the labels. Below 1,
    `confidence` lowers the bar of each class to this share of the mean.
    """
    classes = torch.arange(probabilities.shape[1])
    own = torch.nn.functional.one_hot(given, len(classes)).to(probabilities.dtype)
    thresholds = (own * probabilities).sum(0) / own.sum(0).clamp_min(1) * confidence
    confident = torch.where(probabilities >= thresholds, probabilities, torch.full_like(probabilities, -1.0))
    best = confident.argmax(1)
    suspect = confident.max(1).values > probabilities.gather(1, given[:, None])[:, 0]
    return torch.where(suspect, best, torch.full_like(best, -1))
