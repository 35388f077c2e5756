"""Rows that are spread over all rows: the k-center problem, greedily, which is within twice the best radius."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fttool.api import Track

Vectors: TypeAlias = NDArray[np.float32]

WIDTH = 256
"""Numbers of a sketch: distances are off by 1/√256, usually, and a row takes a kilobyte."""
PIECE = 3
"""Characters of a piece."""


def sketches(texts: Sequence[str]) -> Vectors:
    """A text's pieces of three characters in 256 numbers, of length 1; 0 for an empty text. Shape (N, WIDTH).

    Each piece adds 1 or −1 to a number, both by its hash (Weinberger et al. 2009), so that the product of two sketches
    is about the cosine of the texts' counts of pieces.
    """
    made = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text in enumerate(texts):
        plain = " ".join(unicodedata.normalize("NFC", text).casefold().split())
        pieces = {plain[place : place + PIECE] for place in range(max(1, len(plain) - PIECE + 1))} if plain else set()
        for piece in sorted(pieces):
            value = zlib.crc32(piece.encode("utf-8", "surrogatepass"))
            made[row, value % WIDTH] += 1 if value & 0x80000000 else -1
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9)


def k_center(vectors: Vectors, keep: int, seed: int, track: Track = lambda items, what: items) -> list[int]:
    """The rows that are taken, in their order: the first by chance, and each next one the farthest from all before
    it."""
    taken = [int(np.random.default_rng(seed).integers(len(vectors)))]
    nearest = np.full(len(vectors), np.inf, dtype=np.float32)
    for _ in track(range(keep - 1), "choosing different rows"):
        # Both of length 1, so the product orders them as the distance does.
        np.minimum(nearest, 1 - vectors @ vectors[taken[-1]], out=nearest)
        nearest[taken[-1]] = -np.inf
        taken.append(int(nearest.argmax()))
    return taken
