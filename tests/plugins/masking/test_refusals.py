"""Where a template does not take a conversation, the error says what it would take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, MaskingContext
from fttool_plugins.masking.assistant import Assistant

ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURN = "<|im_start|>{{ m.role }}\n{}<|im_end|>\n"
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
PARTS = "{% for part in m.content %}{{ part['text'] }}{% endfor %}"
USER: dict[str, Any] = {"role": "user", "content": "Hi"}


def template(content: str) -> str:
    return "{% for m in messages %}" + TURN.replace("{}", content, 1) + "{% endfor %}" + ASK


@pytest.mark.parametrize(
    ("content", "answer", "sentence"),
    [
        (
            "{{ m.content + '' }}{{ m.tool_calls | tojson if m.tool_calls }}",
            {"content": None, "tool_calls": [CALL]},
            'it cannot write message 2, which has no content: give it an empty one, "content": ""',
        ),
        ("{{ m['content'].strip() }}", {"content": None, "tool_calls": [CALL]}, "it cannot write tool calls"),
        (
            "{{ raise_exception('no text') if m.content is string }}" + PARTS,
            {"content": "Hello!"},
            'no text; it wants content as a list of parts: "content": [{"type": "text", "text": "…"}]',
        ),
        (
            PARTS,
            {"content": "Hello!"},
            "leaves out the text of message 2, 'Hello!', .*; it wants content as a list",
        ),
        ("{{ raise_exception('never') }}", {"content": "Hello!"}, "refuses this conversation: never$"),
        ("{{ m.text }}", {"content": "Hello!"}, "leaves out the text of message 2, 'Hello!', [^;]*$"),
    ],
)
def test_what_a_template_would_take_is_said(
    content: str, answer: dict[str, Any], sentence: str, speaking: Callable[[str | None], PreTrainedTokenizerFast]
) -> None:
    encode = Assistant().build(MaskingContext(tokenizer=speaking(template(content))))
    pattern = sentence.replace("[{", r"\[\{").replace("}]", r"\}\]") if "list of parts: " in sentence else sentence
    with pytest.raises(ValueError, match=pattern):
        encode(Example(origin="test", messages=(USER, {"role": "assistant", **answer})))


def test_content_in_parts_is_learned(speaking: Callable[[str | None], PreTrainedTokenizerFast]) -> None:
    tokenizer = speaking(template(PARTS))
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]},
    ]
    encoded = Assistant().build(MaskingContext(tokenizer=tokenizer))(Example(origin="test", messages=tuple(messages)))
    assert tokenizer.decode([label for label in encoded.labels if label != -100]) == "Hello!<|im_end|>"
