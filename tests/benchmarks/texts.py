"""Texts whose words are as rare and as frequent as those of a language: by Zipf's law, from invented words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate

SYLLABLES = [consonant + vowel for consonant in "bcdfgklmnprstv" for vowel in "aeiou"]


class Texts:
    """Sentences by a seed."""

    def __init__(self, seed: int, words: int = 20_000) -> None:
        self.draw = random.Random(seed)
        self.words = ["".join(self.draw.choices(SYLLABLES, k=self.draw.randint(1, 4))) for _ in range(words)]
        self._shares = list(accumulate(1 / (rank + 3) for rank in range(words)))

    def said(self, least: int, most: int) -> list[str]:
        """So many words."""
        return self.draw.choices(self.words, cum_weights=self._shares, k=self.draw.randint(least, most))

    def changed(self, words: Sequence[str], count: int) -> list[str]:
        """The same words with some others in place of `count` of them."""
        copy = list(words)
        for place in self.draw.sample(range(len(copy)), count):
            copy[place] = self.draw.choice(self.words)
        return copy
