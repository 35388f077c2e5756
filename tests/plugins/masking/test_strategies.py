"""The room, and `all` for conversations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, MaskingContext
from fttool_plugins import masking
from fttool_plugins.masking.all import All
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.completion import Completion
from fttool_plugins.masking.label import Label

TALK = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"})


def test_the_room_lists_its_strategies() -> None:
    assert {strategy.id(): strategy for strategy in masking.fttool_strategies()} == {
        "all": All,
        "assistant": Assistant,
        "completion": Completion,
        "label": Label,
    }


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gptoss", "phi3", "glm4moe", "smolvlm"])
def test_all_learns_the_whole_conversation(
    name: str, speaking: Callable[[str], PreTrainedTokenizerFast], trl_template: Callable[[str], str]
) -> None:
    tokenizer = speaking(trl_template(name))
    encoded = All().build(MaskingContext(tokenizer=tokenizer))(Example(origin="test", messages=TALK))
    assert encoded.input_ids == tokenizer.apply_chat_template(list(TALK), return_dict=False)
    assert encoded.labels == [-100, *encoded.input_ids[1:]]
    assert encoded.input_ids[:2] != [tokenizer.bos_token_id] * 2


def test_bos_is_written_once(
    speaking: Callable[[str], PreTrainedTokenizerFast], trl_template: Callable[[str], str]
) -> None:
    """Though the template writes it and the tokenizer would add it, too."""
    tokenizer = speaking(trl_template("llama3"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    assert tokenizer("Hi")["input_ids"][0] == tokenizer.bos_token_id
    for strategy in (All(), Assistant(), Completion()):
        encoded = strategy.build(MaskingContext(tokenizer=tokenizer))(Example(origin="test", messages=TALK))
        assert encoded.input_ids.count(tokenizer.bos_token_id) == 1


def test_all_refuses_what_the_template_refuses(speaking: Callable[[str], PreTrainedTokenizerFast]) -> None:
    encode = All().build(MaskingContext(tokenizer=speaking("{{ raise_exception('No.') }}")))
    with pytest.raises(ValueError, match="refuses this conversation: No"):
        encode(Example(origin="test", messages=TALK))


def test_the_room_loads_without_torch_and_its_kin() -> None:
    code = (
        "import sys, fttool_plugins.masking as m; m.fttool_strategies();"
        "print([n for n in ('torch', 'transformers', 'trl', 'datasets', 'jinja2') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
