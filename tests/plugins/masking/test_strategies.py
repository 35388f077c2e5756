"""The room, and `all` for conversations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, MaskingContext
from fttool_plugins import masking
from fttool_plugins.masking.all import All
from fttool_plugins.masking.assistant import Assistant
from fttool_plugins.masking.chosen_turns import ChosenTurns
from fttool_plugins.masking.completion import Completion
from fttool_plugins.masking.label import Label
from fttool_plugins.masking.last_assistant import LastAssistant
from fttool_plugins.masking.words import Words

from ...probes import HEAVY, imported_by

TALK = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"})


def test_the_room_lists_its_strategies() -> None:
    assert {strategy.id(): strategy for strategy in masking.fttool_strategies()} == {
        "all": All,
        "assistant": Assistant,
        "chosen-turns": ChosenTurns,
        "completion": Completion,
        "label": Label,
        "last-assistant": LastAssistant,
        "words": Words,
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


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gptoss", "phi3", "deepseekv3", "gemma", "lfm2"])
@pytest.mark.parametrize("marked", [1, 3, 5])
def test_a_marked_turn_is_read_and_not_learned(
    name: str, marked: int, speaking: Callable[[str], PreTrainedTokenizerFast], trl_template: Callable[[str], str]
) -> None:
    """Each word stands once in the text; of those of the assistant's other turns none is missing."""
    tokenizer = speaking(trl_template(name))
    words = ["zero", "ONE", "two", "THREE", "four", "FIVE"]
    turns = tuple({"role": "assistant" if i % 2 else "user", "content": word} for i, word in enumerate(words))
    example = Example(origin="test", messages=turns, unlearned=frozenset({marked}))
    encode = Assistant().build(MaskingContext(tokenizer=tokenizer))
    row, whole = encode(example), encode(Example(origin="test", messages=turns))
    learned = tokenizer.decode([label for label in row.labels if label != -100])
    assert row.input_ids == whole.input_ids
    assert [word for word in words if word in learned] == [w for w in words if w.isupper() and w != words[marked]]
    completion = Completion().build(MaskingContext(tokenizer=tokenizer))
    assert completion(Example(origin="test", messages=turns, completion_from=1, unlearned=frozenset({marked}))) == row


def test_all_refuses_a_turn_that_is_marked(speaking: Callable[[str], PreTrainedTokenizerFast]) -> None:
    encode = All().build(MaskingContext(tokenizer=speaking("{{ messages }}")))
    with pytest.raises(ValueError, match="turn 2 is marked as not learned, and masking 'all' learns"):
        encode(Example(origin="test", messages=TALK, unlearned=frozenset({1})))


def test_all_refuses_what_the_template_refuses(speaking: Callable[[str], PreTrainedTokenizerFast]) -> None:
    encode = All().build(MaskingContext(tokenizer=speaking("{{ raise_exception('No.') }}")))
    with pytest.raises(ValueError, match="refuses this conversation: No"):
        encode(Example(origin="test", messages=TALK))


def test_the_room_loads_without_torch_and_its_kin() -> None:
    code = "import fttool_plugins.masking as room; room.fttool_strategies()"
    assert imported_by(code, *HEAVY, "jinja2") == set()
