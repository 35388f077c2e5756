"""The tokens of a text whose words have classes, and which word each token is of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fttool_plugins.masking.tokens import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Places = Sequence[tuple[int, int]]
"""Beginning and end (exclusive) in a text."""


def encode_words(
    tokenizer: PreTrainedTokenizerBase, text: str, places: Places, max_length: int | None, as_text: bool
) -> tuple[list[int], list[int], int]:
    """The tokens (T,) of a text, which of the words at `places` each is of (T,), −1 for none, and how many are cut off.

    Raises `ValueError` where no word has a token, or `max_length` leaves none; single words may be without one.
    """
    plain: dict[str, Any] = {"truncation": False, "padding": False, "verbose": False, "split_special_tokens": as_text}
    encoding: Any = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, **plain)
    ids = list(encoding["input_ids"])
    around = [bool(flag) for flag in encoding["special_tokens_mask"]]
    unknown: Any = tokenizer.unk_token_id
    inside = {token for token, is_around in zip(ids, around, strict=True) if not is_around}
    if as_text and inside & (special_ids(tokenizer) - {unknown}):
        raise ValueError("the tokenizer cannot write a control token of the row as text: it makes a token of it")
    words = _words(text, places, encoding["offset_mapping"], around)
    if max(words, default=-1) < 0:
        raise ValueError(f"the tokenizer makes no token of the text {text[:40]!r}")
    if max_length is None or len(ids) <= max_length:
        return ids, words, 0
    return _cut(ids, words, around, max_length)


def _words(text: str, places: Places, offsets: Places, around: Sequence[bool]) -> list[int]:
    """Which word each token is of, by its first character that is not blank."""
    starts = [start for start, _ in places]
    words_T: list[int] = []
    for (first, last), is_around in zip(offsets, around, strict=True):
        inside = text[first:last]
        place = first + len(inside) - len(inside.lstrip())
        word = bisect_right(starts, place) - 1
        words_T.append(-1 if is_around or not inside.strip() or word < 0 or place >= places[word][1] else word)
    return words_T


def _cut(ids: list[int], words: list[int], around: Sequence[bool], max_length: int) -> tuple[list[int], list[int], int]:
    """The first tokens of the text, with the special tokens in front of it and after it."""
    text = [place for place, is_around in enumerate(around) if not is_around]
    room = max_length - (len(ids) - len(text))
    staying = set(text[: max(room, 0)])
    chosen = [place for place, is_around in enumerate(around) if is_around or place in staying]
    left = [words[place] for place in chosen]
    if max(left, default=-1) < 0:
        special = len(around) - len(text)
        raise ValueError(f"max_length = {max_length} leaves no token of a word beside {special} special ones")
    return [ids[place] for place in chosen], left, len(ids) - len(chosen)
