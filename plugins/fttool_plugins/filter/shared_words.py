"""Which share of a prompt's words its answer has, each word weighed by how rare it is among the rows."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+|\d+")
PARTS = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where a name such as `formatMonth` has its next word."""
STEM = 5
"""Letters by which words are the same: `sort`, `sorted` and `sorting` are three, `copies` and `copied` one."""

WordSet: TypeAlias = NDArray[np.uint32]
"""Hashes of different words, sorted: four bytes a word. Shape (W,)."""


def words(text: str) -> list[str]:
    """The stems of a text's words, those of names in code apart."""
    return [word[:STEM] for word in WORD.findall(PARTS.sub(" ", text).casefold())]


def word_set(stems: Iterable[str]) -> WordSet:
    """Their hashes, the same in every process; of 100,000 words one pair shares one by chance."""
    return np.array(sorted({zlib.crc32(stem.encode("utf-8", "surrogatepass")) for stem in stems}), dtype=np.uint32)


def covered(prompts: Sequence[WordSet], answers: Sequence[WordSet]) -> list[float]:
    """Of each row the share of its prompt's words that its answer has; 1 where no word of it tells rows apart."""
    if not prompts:
        return []
    both = np.concatenate([np.union1d(*pair) for pair in zip(prompts, answers, strict=True)])
    vocabulary, rows = np.unique(both, return_counts=True)
    weights = np.log((1 + len(prompts)) / rows)
    shares: list[float] = []
    for prompt, answer in zip(prompts, answers, strict=True):
        own = weights[np.searchsorted(vocabulary, prompt)]
        total = float(own.sum())
        shares.append(float(own[np.isin(prompt, answer, assume_unique=True)].sum()) / total if total > 0 else 1.0)
    return shares
