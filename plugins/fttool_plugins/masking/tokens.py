"""A text in tokens, and the characters each stands for.

Offsets of fast tokenizers differ in whose the white space is: byte-level ones leave the space out of " word", and all
of a token that is only a space; special tokens may swallow what is around them. Here a token stands for its ink, the
characters without white space around them, and only a token without ink stands for white space.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
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


def special_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """How the special tokens are written."""
    return [text for text in tokenizer.convert_ids_to_tokens(sorted(special_ids(tokenizer))) if text]


class Tokenization:
    """Makes tokens of rendered conversations, as inference would make them of each prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer)
        self._endings: dict[str, list[int]] = {}
        """The end of a prompt, from its last special token on → its tokens."""

    def tokens(self, text: str, begins: Sequence[int] = ()) -> Tokens:
        """The tokens of a text as it stands: nothing is added in front or behind, nothing is cut off.

        `begins` are the characters at which the model begins to write. Inference makes tokens of what stands before
        alone, so where a token of the whole text reaches over such a border ("ASSISTANT: " + "Hello"), or those in
        front of it are others than inference has, the text is cut there and its parts are tokenized apart.

        Raises `ValueError` for a slow tokenizer, which does not say which characters a token stands for.
        """
        if not self._tokenizer.is_fast:
            raise ValueError(
                f"{type(self._tokenizer).__name__} is a slow tokenizer: it does not say which characters a token "
                "stands for; use the model's fast tokenizer (tokenizer.json)"
            )
        ids, offsets = self._encode(text)
        cuts = [begin for begin in begins if 0 < begin < len(text) and not self._is_border(text, begin, ids, offsets)]
        if cuts:
            ids, offsets = self._in_parts(text, cuts)
        starts, ends = _ink(text, offsets)
        return Tokens(text, ids, starts, ends, self._special)

    def _is_border(self, text: str, place: int, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> bool:
        """True where the text before `place` has the same tokens alone; no token reaches over a special one."""
        first = bisect_left(offsets, place, key=lambda offset: offset[1])
        while first > 0 and (first == len(ids) or ids[first] not in self._special or offsets[first][1] > place):
            first -= 1
        start = offsets[first][0] if ids[first] in self._special else 0
        first = first if start else 0
        ending = text[start:place]
        if ending not in self._endings:
            if len(self._endings) >= 10_000 or len(ending) > 200:  # headers are short and few; whole prompts are not
                self._endings.clear()
            self._endings[ending] = self._encode(ending)[0]
        alone = self._endings[ending]
        return list(ids[first : first + len(alone)]) == alone

    def _in_parts(self, text: str, cuts: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """The tokens of the text between the cuts, each part as it is read behind what stands before."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end in pairwise([0, *sorted(cuts), len(text)]):
            lead = "\n" if start else ""  # SentencePiece puts a space before a text, but not behind a line break
            leading = self._encode(lead)[0] if lead else []
            part, places = self._encode(lead + text[start:end])
            if part[: len(leading)] != leading:
                lead, leading = "", []
                part, places = self._encode(text[start:end])
            ids += part[len(leading) :]
            shift = start - len(lead)
            offsets += [(max(start, begin + shift), max(start, stop + shift)) for begin, stop in places[len(leading) :]]
        return ids, offsets

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._tokenizer(
            text,
            add_special_tokens=False,
            truncation=False,
            return_offsets_mapping=True,
            verbose=False,  # no warning about the model's longest sequence: batching cuts
        )
        return list(encoding["input_ids"]), list(encoding["offset_mapping"])


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
