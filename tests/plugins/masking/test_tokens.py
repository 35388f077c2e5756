"""Labels must not depend on how a tokenizer reports its offsets: with a space or without, or swallowing more."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, MaskingContext
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.tokens import Tokenization, special_ids

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
LINES = ["user assistant Hi there Hello you and me . ! ?"] * 3
TALK = (
    {"role": "user", "content": "Hi  there"},
    {"role": "assistant", "content": "Hello you"},
    {"role": "user", "content": " and"},
    {"role": "assistant", "content": "  me "},
)


def byte_level(trim_offsets: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        LINES,
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=MARKS, show_progress=False),
    )
    return tokenizer


def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(
        [*LINES, "\n"],
        trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", *MARKS], show_progress=False),
    )
    return tokenizer


def words() -> Tokenizer:
    """It leaves white space out altogether."""
    vocabulary = {word: place for place, word in enumerate(["<unk>", *MARKS, *LINES[0].split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(MARKS)
    return tokenizer


def swallowing(left: bool, right: bool) -> Tokenizer:
    """Its marks swallow white space in front or after, as Phi-3's do."""
    tokenizer = byte_level(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(mark, lstrip=left, rstrip=right, special=True) for mark in MARKS])
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": lambda: byte_level(trim_offsets=True),
    "byte-level, offsets with the space": lambda: byte_level(trim_offsets=False),
    "metaspace": metaspace,
    "words": words,
    "marks that swallow to the left": lambda: swallowing(left=True, right=False),
    "marks that swallow to the right": lambda: swallowing(left=False, right=True),
    "marks that swallow on both sides": lambda: swallowing(left=True, right=True),
}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(
        tokenizer_object=KINDS[request.param](),
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=MARKS[2:] if "swallow" not in request.param else None,
    )
    made.chat_template = TEMPLATE
    return made


def test_the_ink_is_learned_whoever_holds_the_white_space(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = Assistant().build(MaskingContext(tokenizer=tokenizer))(Example(origin="test", messages=TALK))
    assert encoded.input_ids == tokenizer.apply_chat_template(list(TALK), return_dict=False)
    ink, end = [], tokenizer.convert_tokens_to_ids("<|im_end|>")
    for place, label in enumerate(encoded.labels):
        if label != -100:
            ink.append("" if place and encoded.labels[place - 1] != -100 else "|")
            ink.append(tokenizer.decode(label).strip() if label != end else "#")
    assert "".join(ink).replace("▁", "") == "|Helloyou#|me#"


def test_every_character_with_ink_is_held_by_a_token(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "<|im_start|>user\nHi  there<|im_end|>\n<|im_start|>assistant\n Hello you <|im_end|>\n"
    tokens = Tokenization(tokenizer).tokens(text)
    starts, ends = zip(*map(tokens.place, range(len(tokens.ids))), strict=True)
    assert list(starts) == sorted(starts) and list(ends) == sorted(ends)
    for place, character in enumerate(text):
        if character.strip():
            assert tokens.within(place, place + 1)


def test_pieces_of_one_character_stand_for_that_character() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(trim_offsets=True), eos_token="</s>")
    text = "a👋b"
    tokens = Tokenization(tokenizer).tokens(text)
    assert [*tokens.within(1, 2)] == [1, 2, 3, 4]
    assert [*tokens.within(0, 1)] == [0]
    assert [*tokens.within(2, 3)] == [5]


def test_added_tokens_are_special_only_where_they_say_so() -> None:
    backend = byte_level(trim_offsets=True)
    backend.add_tokens([AddedToken("<think>", special=False), AddedToken("<|stop|>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    special = special_ids(tokenizer)
    assert tokenizer.convert_tokens_to_ids("<|stop|>") in special
    assert tokenizer.convert_tokens_to_ids("</s>") in special
    assert tokenizer.convert_tokens_to_ids("<think>") not in special


def test_what_stands_in_front_of_a_cut_has_the_tokens_of_a_prompt() -> None:
    """Random texts and borders; the prompt of the first border is tokenized alone, as inference does it."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(trim_offsets=True), eos_token="</s>")
    made, chance = Tokenization(tokenizer), random.Random(5)
    pieces = ["</s>", " ", "\n", "\n\n", "Hello", "you", " me", "👋", ": ", "  ", "x"]
    seen = 0
    for _ in range(400):
        text = "".join(chance.choices(pieces, k=12))
        borders = sorted(chance.sample(range(1, len(text)), k=3))
        plain, cut = made.tokens(text), made.tokens(text, borders)
        seen += plain.ids != cut.ids
        prompt = tokenizer(text[: borders[0]], add_special_tokens=False)["input_ids"]
        assert cut.ids[: len(prompt)] == prompt
        assert tokenizer.decode(cut.ids) == text
        for border in borders:  # no token reaches over one
            assert not [token for token, id_ in enumerate(cut.ids) if crosses(cut.offsets[token], border)], (
                text,
                borders,
            )
        assert cut.reach[-1] == len(text) and cut.reach == sorted(cut.reach)
    assert seen > 100


def crosses(offset: tuple[int, int], border: int) -> bool:
    return offset[0] < border < offset[1]
