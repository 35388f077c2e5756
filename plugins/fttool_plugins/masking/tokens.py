"""A text in tokens, and the characters each stands for.

Offsets of fast tokenizers differ in whose the white space is: byte-level ones leave the space out of " word", and all
of a token that is only a space; special tokens may swallow what is around them. Here a token stands for its ink, the
characters without white space around them, and only a token without ink stands for white space.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenized text: token i stands for the characters `starts[i]` to `ends[i]` (exclusive); both ascend."""

    text: str
    ids: list[int]
    starts: list[int]
    ends: list[int]
    special_ids: frozenset[int]

    def within(self, start: int, end: int) -> list[int]:
        """The tokens that hold one of the characters `start` to `end`, or stand among them and hold none."""
        near = range(bisect_left(self.ends, start), bisect_left(self.starts, end))
        return [token for token in near if self.ends[token] > start or self.starts[token] == start]

    def lies_in(self, token: int, start: int, end: int) -> bool:
        """True where all of the token's characters are among `start` to `end`."""
        return start <= self.starts[token] and self.ends[token] <= end

    def is_special(self, token: int) -> bool:
        """True for what is no text: BOS, EOS, the ends of turns and their like."""
        return self.ids[token] in self.special_ids

    def is_blank(self, token: int) -> bool:
        """True for white space."""
        return not self.is_special(token) and not self.text[self.starts[token] : self.ends[token]].strip()

    def are_frame(self, tokens: Iterable[int]) -> bool:
        """True where no token is text: all are special or blank, or there are none."""
        return all(self.is_special(token) or self.is_blank(token) for token in tokens)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that are no text; added tokens like `<think>` are text unless they are marked special."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {index for index, token in added if token.special}


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str, special: frozenset[int]) -> Tokens:
    """The tokens of a text as it stands: nothing is added in front or behind, nothing is cut off.

    Raises `ValueError` for a slow tokenizer, which does not say which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer: it does not say which characters a token stands "
            "for; use the model's fast tokenizer (tokenizer.json)"
        )
    encoding = tokenizer(
        text,
        add_special_tokens=False,
        truncation=False,
        return_offsets_mapping=True,
        verbose=False,  # no warning about the model's longest sequence: batching cuts
    )
    starts, ends = _ink(text, encoding["offset_mapping"])
    return Tokens(text, list(encoding["input_ids"]), starts, ends, special)


def _ink(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Where each token's ink starts and ends. What no offset holds belongs to the token behind it."""
    starts: list[int] = []
    ends: list[int] = []
    done = 0
    for offset, end in offsets:
        # The pieces of one character share its offsets, so one may begin before what is done.
        start, end = min(offset, done) if end >= done else done, max(end, done)
        done = end
        piece = text[start:end]
        if piece.strip():
            start += len(piece) - len(piece.lstrip())
            end -= len(piece) - len(piece.rstrip())
        starts.append(start)
        ends.append(end)
    return starts, ends
