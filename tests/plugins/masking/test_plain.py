"""Rows of plain text: the prompt as inference sees it, and an end that is learned."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fttool.api import Encoded, Example, Masking, MaskingContext
from fttool_plugins.masking.all import All
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.completion import Completion

LINES = ["Question: what is a cat? Answer: a cat is a cat. abc abc abc"] * 5


def trained(bos: bool, eos: str | None = "</s>") -> PreTrainedTokenizerFast:
    """Byte-level, with merges over what the rows say ("abc" and " cat" are one token each)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos)


def encode(strategy: Masking, tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str) -> Encoded:
    encoded = strategy.build(MaskingContext(tokenizer=tokenizer))(
        Example(origin="test", prompt=prompt, completion=completion)
    )
    assert len(encoded.input_ids) == len(encoded.labels)
    assert encoded.labels[0] == -100
    return encoded


def learned(encoded: Encoded) -> list[int]:
    return [label for label in encoded.labels if label != -100]


@pytest.mark.parametrize("strategy", [Assistant(), Completion()])
@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("Question: what is a cat?", " Answer: a cat."),
        ("Question: ", "a cat"),  # " a" would be one token over the boundary
        ("ab", "c abc"),  # "abc" would
        ("Question:\n", "\na cat"),  # and so would "\n\n" in many tokenizers
        ("", "a cat is a cat"),
        ("a cat ", "is a cat\n"),
    ],
)
def test_the_row_begins_with_the_prompt_of_inference(
    strategy: Masking, bos: bool, prompt: str, completion: str
) -> None:
    tokenizer = trained(bos)
    encoded = encode(strategy, tokenizer, prompt, completion)
    seen = tokenizer(prompt)["input_ids"]
    assert encoded.input_ids[: len(seen)] == seen
    assert encoded.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded.input_ids) == ("<s>" if bos else "") + prompt + completion + "</s>"
    assert encoded.labels[: len(seen)] == [-100] * len(seen)
    start = max(len(seen), 1)  # the first token is never learned
    assert encoded.labels[start:] == encoded.input_ids[start:]


def test_the_boundary_cases_are_real() -> None:
    """Without the care taken, inference would see another prompt."""
    tokenizer = trained(bos=False)
    for prompt, completion in (("Question: ", "a cat"), ("ab", "c abc")):
        seen = tokenizer(prompt)["input_ids"]
        assert tokenizer(prompt + completion)["input_ids"][: len(seen)] != seen


@pytest.mark.parametrize("bos", [True, False])
def test_all_learns_prompt_completion_and_end(bos: bool) -> None:
    tokenizer = trained(bos)
    encoded = encode(All(), tokenizer, "Question: ", "a cat")
    assert encoded.input_ids == encode(Assistant(), tokenizer, "Question: ", "a cat").input_ids
    assert encoded.labels == [-100, *encoded.input_ids[1:]]
    assert encoded.labels[-1] == tokenizer.eos_token_id
    assert encoded.input_ids.count(0) == bos


@pytest.mark.parametrize("strategy", [Assistant(), Completion(), All()])
def test_marks_that_the_text_has_are_not_doubled(strategy: Masking) -> None:
    tokenizer = trained(bos=True)
    for prompt, completion in (("<s>a ", "cat</s>"), ("", "<s>a cat</s>")):
        encoded = encode(strategy, tokenizer, prompt, completion)
        assert tokenizer.decode(encoded.input_ids) == "<s>a cat</s>"
        assert learned(encoded)[-1] == tokenizer.eos_token_id


def test_a_completion_tokenized_apart_gets_no_space_of_its_own() -> None:
    """SentencePiece puts one in front of every text."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "</s>"], show_progress=False)
    backend.train_from_iterator([*LINES, "\n\n"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    seen, alone = tokenizer("ab")["input_ids"], tokenizer("c abc")["input_ids"]
    assert tokenizer("abc abc")["input_ids"][: len(seen)] != seen
    assert tokenizer.decode(seen + alone) == "ab c abc"
    assert tokenizer.decode(encode(Completion(), tokenizer, "ab", "c abc").input_ids) == "abc abc</s>"


@pytest.mark.parametrize("strategy", [Assistant(), Completion(), All()])
@pytest.mark.parametrize("completion", ["", " ", "\n\t"])
def test_an_empty_completion_is_refused(strategy: Masking, completion: str) -> None:
    with pytest.raises(ValueError, match="the completion is empty"):
        encode(strategy, trained(bos=True), "Question:", completion)


@pytest.mark.parametrize("strategy", [Assistant(), Completion(), All()])
def test_a_tokenizer_without_eos_is_refused(strategy: Masking) -> None:
    with pytest.raises(ValueError, match="no EOS token, so the model would never learn to stop"):
        encode(strategy, trained(bos=True, eos=None), "Question:", " a cat")


def test_a_row_of_which_only_eos_would_be_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="too short: only the EOS after it would be learned"):
        encode(All(), trained(bos=False), "", "x")
    assert len(learned(encode(All(), trained(bos=True), "", "x"))) == 2
    with pytest.raises(ValueError, match="too short"):
        encode(Completion(), trained(bos=True), "Question:", "</s>")


def test_a_chat_template_is_not_needed(speaking: Callable[[str | None], PreTrainedTokenizerFast]) -> None:
    assert learned(encode(Assistant(), speaking(None), "Hi", " there"))
