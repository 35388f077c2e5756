"""The tokens of a text by its pieces are those that the tokenizer makes of the whole, for every known way to cut it.

On random texts, and without the look at the first of them: that one would hide what is wrong here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from fttool_plugins.masking import pieces
from fttool_plugins.masking.pieces import PATTERNS, Anchor, Pieces, pieces_of
from fttool_plugins.masking.tokens import special_ids

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT_2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
MARKS = ["<s>", "</s>", "<|im_end|>", "<|im"]
LINES = ["Don't say: it's 1234 of the HTTPServer's. \n\n\tdef f(x):\n    return x  # they're 'so' good"] * 3
WORDS = [
    *(
        "a",
        "the",
        "It",
        "'s",
        "'S",
        "'ll",
        "'",
        "'t",
        "12",
        "1234",
        "x1",
        "HTTPServer",
        "getName",
        ".",
        "...",
        "!?",
        "_",
    ),
    *(
        " ",
        " ",
        " ",
        "  ",
        "   ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x00",
        "\x7f",
        "/",
        ":/",
        "(",
        ")\n",
    ),
    *("</s>", "<|im_end|>", "<|im", "<think>", "<"),
]
FOREIGN = ["é", "ſ", "\u2028", "\xa0", "\x85", "你好", "٣", "K", "👋🏽", "e\u0301", "\u200b"]


def split(pattern: str, behavior: str = "isolated", *, invert: bool = False) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior, invert), BYTES])


CUTS: dict[str, Callable[[], Any]] = {
    "byte-level": lambda: GPT_2,
    "byte-level, each digit alone": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(True), GPT_2]),
    **{f"pattern {number}": lambda pattern=pattern: split(pattern) for number, pattern in enumerate(sorted(PATTERNS))},
}


def tokenizer(cuts: Any, normalizer: Any = None, **added: Any) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = cuts
    if normalizer:
        made.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False))
    options: dict[str, Any] = {"normalized": False, **added}
    made.add_special_tokens([AddedToken(mark, special=True, **options) for mark in MARKS])
    made.add_tokens([AddedToken("<think>", special=False, **options)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


def by_pieces(made: PreTrainedTokenizerFast) -> Pieces | None:
    encode = made.backend_tokenizer.encode
    return pieces_of(made, special_ids(made), lambda text: encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()], ids=["as it is", "NFC"])
@pytest.mark.parametrize("cuts", CUTS)
def test_random_texts(cuts: str, normalizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "SEEN", 0)
    made, draw = tokenizer(CUTS[cuts](), normalizer), random.Random(cuts)
    quick = by_pieces(made)
    assert quick is not None
    for number in range(400):
        words = WORDS if number % 3 else [*WORDS, *FOREIGN]
        text = "".join(draw.choices(words, k=draw.randrange(1, 16)))
        whole = made.backend_tokenizer.encode(text, add_special_tokens=False)
        special = special_ids(made)
        anchors = [Anchor(n, *whole.offsets[n]) for n, id_ in enumerate(whole.ids) if id_ in special]
        assert quick.tokens(text) == (whole.ids, anchors), text


def test_patterns_are_those_of_models() -> None:
    assert PRETOKENIZE_REGEX in PATTERNS
    spaced = re.sub(r"\\p\{(\w+)\}", "x", PRETOKENIZE_REGEX)
    assert spaced != PRETOKENIZE_REGEX and re.compile(spaced)


OTHERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "another pattern": lambda: tokenizer(split(r"\S+|\s+")),
    "a pattern of what is left out": lambda: tokenizer(split(PRETOKENIZE_REGEX, "removed")),
    "a pattern of what is between": lambda: tokenizer(split(PRETOKENIZE_REGEX, invert=True)),
    "a space in front": lambda: tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "no cuts": lambda: tokenizer(BYTES),
    "white space": lambda: tokenizer(pre_tokenizers.Whitespace()),
    "digits together": lambda: tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(False), GPT_2])),
    "small letters": lambda: tokenizer(GPT_2, normalizers.Lowercase()),
    "tokens that swallow a space": lambda: tokenizer(GPT_2, rstrip=True),
    "tokens that are words": lambda: tokenizer(GPT_2, single_word=True),
    "tokens that are normalized": lambda: tokenizer(GPT_2, normalizers.NFC(), normalized=True),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_tokenizers_are_left_alone(kind: str) -> None:
    assert by_pieces(OTHERS[kind]()) is None


def test_dropout_is_left_alone() -> None:
    made = tokenizer(GPT_2)
    made.backend_tokenizer.model.dropout = 0.1
    assert by_pieces(made) is None


def test_pieces_that_are_not_those_of_the_tokenizer_are_given_up() -> None:
    """A planted fault: words of another tokenizer. The first texts show it, and no tokens are given."""
    made = tokenizer(GPT_2)
    quick = by_pieces(made)
    assert quick is not None and quick.tokens("the end") is not None
    quick._known[" end"] = [1, 2, 3]  # pyright: ignore[reportPrivateUsage]
    assert quick.tokens("the end") is None
    assert quick.tokens("another") is None


def test_no_more_pieces_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "REMEMBERED", 5)
    made = tokenizer(GPT_2)
    quick = by_pieces(made)
    assert quick is not None
    for number in range(30):
        assert quick.tokens(f"word {number} {'x' * 50}") is not None
    assert len(quick._known) == 5  # pyright: ignore[reportPrivateUsage]
