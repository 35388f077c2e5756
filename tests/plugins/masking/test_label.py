"""Texts with the tokenizer's own special tokens, which a cut leaves in place."""

from typing import Any

import pytest

from fttool.api import Encoded, Example, MaskingContext
from fttool_plugins.masking.label import Label

from ...encoder import WORDS, tokenizer


def encode(
    first: str,
    second: str = "",
    max_length: int | None = None,
    using: Any = None,
    labels: tuple[str, ...] | None = ("x",),
) -> Encoded:
    context = MaskingContext(tokenizer=using or tokenizer(), max_length=max_length)
    return Label().build(context)(Example(origin="r:1", prompt=first, second=second, labels=labels))


def words(row: Encoded) -> str:
    return " ".join(WORDS[token] for token in row.input_ids)


def test_a_text_has_the_special_tokens_and_no_label() -> None:
    row = encode("a b c")
    assert words(row) == "[CLS] a b c [SEP]"
    assert row.labels == [-100] * 5 and row.classes == ("x",)
    assert row.token_types is None and not row.cut


def test_a_cut_leaves_the_token_at_the_end() -> None:
    row = encode("a b c d e", max_length=5)
    assert words(row) == "[CLS] a b c [SEP]" and row.cut
    assert words(encode("a b c", max_length=5)) == "[CLS] a b c [SEP]" and not encode("a b c", max_length=5).cut


def test_of_two_texts_the_longer_one_is_cut() -> None:
    row = encode("a b c d e", "f g", max_length=8)
    assert words(row) == "[CLS] a b c [SEP] f g [SEP]"
    assert row.token_types == [0, 0, 0, 0, 0, 1, 1, 1] and row.cut


def test_two_texts_without_a_separator_are_joined_by_a_line_break() -> None:
    plain = tokenizer(special=False)
    assert plain("a", "b")["input_ids"] == plain("a b")["input_ids"], "it parts them by itself"
    row = encode("a b", "c d", using=plain)
    assert row.input_ids == plain("a b\nc d")["input_ids"] and row.token_types is None


def test_the_tokenizer_is_left_without_a_cut() -> None:
    """A fast tokenizer keeps how it was last called, and saves it."""
    used = tokenizer()
    encode("a b c d e", max_length=4, using=used)
    assert used.backend_tokenizer.truncation is None and used.backend_tokenizer.padding is None


def test_what_has_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match="the tokenizer makes no token of the text"):
        encode("~")
    with pytest.raises(ValueError, match="max_length = 2 leaves no token of a text beside 2 special ones"):
        encode("a b", max_length=2)
    with pytest.raises(ValueError, match="the row has no classes"):
        encode("a b", labels=None)
