"""What a template writes of its own into a turn: marks of the format are learned, words and numbers are refused.

Learned text is held against what is written here by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fttool.api import ChatTemplateError, Example, MaskingContext
from fttool_plugins.masking.assistant import Assistant

Speaking = Callable[[str | None], PreTrainedTokenizerFast]

ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TALK: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "Ask me"},
    {"role": "assistant", "content": "Say it", "name": "anna"},
    {"role": "user", "content": "And now"},
    {"role": "assistant", "content": "Go on"},
)
THINKING = tuple({**turn, "reasoning_content": "Hm, so"} if turn["role"] == "assistant" else turn for turn in TALK)


def chatml(answer: str, ask: str = ASK, behind: str = "") -> str:
    """ChatML with another form of the assistant's turns, and something after each turn's end."""
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + answer + "{% else %}"
        "{{ m.content }}{% endif %}<|im_end|>" + behind + "\n{% endfor %}" + ask
    )


def learned(tokenizer: PreTrainedTokenizerFast, messages: tuple[dict[str, Any], ...]) -> list[str]:
    encoded = Assistant().build(MaskingContext(tokenizer=tokenizer))(Example(origin="test", messages=messages))
    marked = "".join("\0" if label == -100 else tokenizer.decode(label) for label in encoded.labels)
    return [part for part in marked.split("\0") if part]


WORDS = {
    "a number in front": (chatml("Step {{ loop.index }}: {{ m.content }}"), "'Step 2:'"),
    "a word in front": (chatml("Answer: {{ m.content }}"), "'Answer:'"),
    "a line in front": (chatml("Answer:\n{{ m.content }}"), "'Answer:'"),
    "a word after": (chatml("{{ m.content }} [over]"), r"'\[over\]'"),
    "a count after": (chatml("{{ m.content }} ({{ m.content | length }})"), r"'\(6\)'"),
    "quotation marks": (chatml("{{ m.content | tojson }}"), "'\"'"),
    "letters within": (chatml("{% for c in m.content %}{{ c }}.{% endfor %}"), r"'\.'"),
    "another separator": (chatml("{{ m.content.split(' ') | join('_') }}"), "'_'"),
    "a mark at each word": (chatml("{{ m.content | replace(' ', ' > ') }}"), "'>'"),
    "a number in the header": (
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ loop.index }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + ASK,
        "'2'",
    ),
    "a numbered channel": (
        "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>part {{ loop.index }}"
        "{% endif %}<|message|>{{ m.content }}<|end|>{% endfor %}{{ '<|start|>assistant' if add_generation_prompt }}",
        "'part 2'",
    ),
    "a number after a thought": (
        chatml("<think>{{ m.reasoning_content }}</think>{{ loop.index }}. {{ m.content }}"),
        r"'2\.'",
    ),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_of_the_template_in_an_answer_are_refused_by_name(kind: str, speaking: Speaking) -> None:
    template, words = WORDS[kind]
    with pytest.raises(ChatTemplateError, match=f"writes {words} into the answer of message 2"):
        learned(speaking(template), THINKING if "reasoning" in template else TALK)


MARKS = {
    "asked for": (chatml("Answer: {{ m.content }}", ASK.replace("\n", "\nAnswer: ")), ["Say it", "Go on"]),
    "a channel": (
        "{% for m in messages %}<|start|>{{ m.role }}{{ '<|channel|>final' if m.role == 'assistant' }}<|message|>"
        "{{ m.content }}<|im_end|>{% endfor %}{{ '<|start|>assistant' if add_generation_prompt }}",
        ["<|channel|>final<|message|>Say it", "<|channel|>final<|message|>Go on"],
    ),
    "a thought": (
        chatml("<think>\n{{ m.reasoning_content }}\n</think>\n\n{{ m.content }}"),
        ["<think>\nHm, so\n</think>\n\nSay it", "<think>\nHm, so\n</think>\n\nGo on"],
    ),
    "words at a thought": (
        chatml("I think:\n{{ m.reasoning_content }}\nFinally:\n{{ m.content }}"),
        ["I think:\nHm, so\nFinally:\nSay it", "I think:\nHm, so\nFinally:\nGo on"],
    ),
    "a recipient": (  # a call begins with the tool's name in its place
        chatml(
            "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}\n{{ m.tool_calls[0].function.arguments }}"
            "{% else %}all\n{{ m.content }}{% endif %}"
        ),
        ["all\nSay it", "all\nGo on"],
    ),
}


@pytest.mark.parametrize("kind", MARKS)
def test_marks_of_the_format_are_learned(kind: str, speaking: Speaking) -> None:
    template, expected = MARKS[kind]
    found = learned(speaking(template), THINKING if "reasoning" in template else TALK)
    assert found == [f"{text}<|im_end|>" for text in expected]


PLAIN = "{{ m.content }}"
ENDS = {
    "padding after": chatml(PLAIN, behind="<|endoftext|>").replace("<|endoftext|>", "{{ pad_token }}"),
    "padding in a line of its own": chatml(PLAIN, behind="\n{{ pad_token }}"),
    "always asks": chatml(PLAIN, ask="{{ '<|im_start|>assistant\n' }}"),
    "always a turn of the system after": chatml(PLAIN, ask="<|im_start|>system\nBe brief.<|im_end|>\n" + ASK),
    "newest first": chatml(PLAIN).replace("in messages", "in messages | reverse"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_nothing_behind_the_token_that_ends_a_turn_is_learned(kind: str, speaking: Speaking) -> None:
    """The tokenizer's EOS is another token, so it does not say which of the template's is the end."""
    tokenizer = speaking(ENDS[kind])
    tokenizer.pad_token = "<|endoftext|>"
    assert sorted(learned(tokenizer, TALK)) == ["Go on<|im_end|>", "Say it<|im_end|>"]


def test_what_follows_eos_is_not_learned(speaking: Speaking) -> None:
    tokenizer = speaking(chatml(PLAIN, behind="<|end|>"))
    assert learned(tokenizer, TALK) == ["Say it<|im_end|><|end|>", "Go on<|im_end|><|end|>"]
    tokenizer.eos_token = "<|im_end|>"
    assert learned(tokenizer, TALK) == ["Say it<|im_end|>", "Go on<|im_end|>"]


CALL = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": {"at": "this"}}}
CALLING: tuple[dict[str, Any], ...] = (
    TALK[0],
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "look", "content": "Seen", "tool_call_id": "call00001"},
    TALK[3],
)


def test_a_call_whose_text_is_another_at_the_end_is_masked(speaking: Speaking) -> None:
    """It is written with its id only where an answer follows, so no text is common after both but the token."""
    template = chatml(
        "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments.at }}"
        "{% endfor %}{% if m.tool_calls %}{{ ')' if messages[-1] is sameas m else ']' }}</tool_call>{% endif %}"
    )
    tokenizer = speaking(template)
    assert learned(tokenizer, CALLING) == ["<tool_call>look this]</tool_call><|im_end|>", "Go on<|im_end|>"]
    assert learned(tokenizer, CALLING[:2]) == ["<tool_call>look this)</tool_call><|im_end|>"]


BLAMES = {
    "a name after": (
        chatml("{{ m.content }}{% if m.name %} -- {{ m.name }}{% endif %}"),
        TALK,
        "message 2 has its name written between what it says and the token that ends it, after ' -- '",
    ),
    "another message within": (
        chatml("{{ m.content }}{% if not loop.last %} next: {{ loop.nextitem.content }}{% endif %}"),
        TALK,
        "message 2 has no end: after its content the chat template writes ' next: ' here, and '<|im_end|>",
    ),
    "the question within": (
        chatml("You asked: {{ loop.previtem.content }}\n{{ m.content }}"),
        TALK,
        "after the content of message 1, message 2 begins with '\\n', but the chat template asks for an answer with",
    ),
    "two answers, ended by the next role": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
        "{{ '<|assistant|>' if add_generation_prompt }}",
        (*TALK[:2], TALK[3]),
        "the next one is the assistant's too, and the chat template ends a turn by opening another role's; make one",
    ),
}


@pytest.mark.parametrize("kind", BLAMES)
def test_what_is_wrong_is_named(kind: str, speaking: Speaking) -> None:
    template, messages, sentence = BLAMES[kind]
    with pytest.raises(ChatTemplateError) as fault:
        learned(speaking(template), messages)
    assert sentence in str(fault.value)
