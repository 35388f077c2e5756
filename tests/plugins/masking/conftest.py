"""A tiny byte-level tokenizer that knows the marks of every chat template in use, made on the spot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = re.findall(
    r"\S+",
    """
    <s> </s> <|endoftext|> <|begin_of_text|> <|im_start|> <|im_end|>
    <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> <|python_tag|>
    <start_of_turn> <end_of_turn> <|turn> <turn|> <|channel> <channel|>
    <|tool_call> <tool_call|> <|tool_response> <tool_response|> <|tool> <tool|> <|think|>
    <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> <|SYSTEM_TOKEN|>
    <|START_RESPONSE|> <|END_RESPONSE|>
    <｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> <｜tool▁calls▁begin｜> <｜tool▁call▁begin｜> <｜tool▁sep｜>
    <｜tool▁call▁end｜> <｜tool▁calls▁end｜> <｜tool▁outputs▁begin｜> <｜tool▁output▁begin｜> <｜tool▁output▁end｜>
    <｜tool▁outputs▁end｜>
    [gMASK] <sop> <|system|> <|user|> <|assistant|> <|observation|> <|end|>
    <|start|> <|message|> <|channel|> <|return|> <|call|> <|eot|> <|eom|>
    <end_of_utterance> <|tool_call_start|> <|tool_call_end|>
    """,
)
TEXT_TOKENS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
"""Added, but not special: as in Qwen's tokenizer."""
LINES = ["Hi there, how are you?", "user system assistant model", "What is 2 + 2? It is 4.", "think answer"] * 4


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(SPECIAL) + 60,  # all bytes and some merges, " is" and "assistant" among them
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_tokens([AddedToken(token, special=False) for token in TEXT_TOKENS])
    return tokenizer


@pytest.fixture(scope="session")
def speaking(byte_level: Tokenizer) -> Callable[[str | None], PreTrainedTokenizerFast]:
    """A function from a chat template to a tokenizer that has it."""

    def make(chat_template: str | None) -> PreTrainedTokenizerFast:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, bos_token="<s>", eos_token="</s>")
        tokenizer.chat_template = chat_template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def trl_template() -> Callable[[str], str]:
    """A function from a name to the text of the chat template that trl carries under it."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    return lambda name: (folder / f"{name}.jinja").read_text()
