"""Learned is what the assistant's own content, thoughts and calls own, wherever and however the template writes it.

Each character of the conversations below belongs to one message, by an alphabet of its own; the templates are of the
kinds that a rule about places gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fttool.api import Example, MaskingContext
from fttool.rows.checks.agreement import compare
from fttool_plugins.masking.assistant import Assistant

ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
ENDED = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"

Template = str
Learned = list[str]
KINDS: dict[str, tuple[Template, Learned]] = {
    # The round of an answer writes other messages too.
    "the question by index": (
        "{% for m in messages %}{% if m.role == 'assistant' %}[INST] {{ messages[loop.index0 - 1].content }} [/INST] "
        "{{ m.content }}<|im_end|>\n{% elif loop.last %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}",
        [" AAA<|im_end|>", " BBB<|im_end|>"],
    ),
    "the question by loop": (
        "{% for m in messages %}{% if m.role == 'assistant' %}Q: {{ loop.previtem.content }}\nA: {{ m.content }}</s>\n"
        "{% elif loop.last and add_generation_prompt %}Q: {{ m.content }}\nA: {% endif %}{% endfor %}",
        ["AAA</s>", "BBB</s>"],
    ),
    "the next question": (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>{{ m.content }}<|end|>"
        "{{ '<|user|>' ~ loop.nextitem.content ~ '<|end|>' if not loop.last }}{% elif loop.first %}<|user|>"
        "{{ m.content }}<|end|>{% endif %}{% endfor %}{{ '<|assistant|>' if add_generation_prompt }}",
        ["AAA<|end|>", "BBB<|end|>"],
    ),
    "pairs": (
        "{% for pair in messages | batch(2) %}[INST] {{ pair[0].content }} [/INST]"
        "{% if pair | length > 1 %} {{ pair[1].content }} </s>{% endif %}{% endfor %}",
        [" AAA </s>", " BBB </s>"],
    ),
    # No loop writes them, or none that a mark could be put into.
    "one string": (
        "{% set ns = namespace(out='') %}{% for m in messages %}"
        "{% set ns.out = ns.out ~ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' %}{% endfor %}"
        "{{ ns.out }}" + ASK,
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "a list, joined": (
        "{% set ns = namespace(all=[]) %}{% for m in messages %}"
        "{% set ns.all = ns.all + ['<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>'] %}{% endfor %}"
        "{{ ns.all | join('\n') }}\n" + ASK,
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "a macro": (
        "{% macro turn(m) %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endmacro %}"
        "{% for m in messages %}{{ turn(m) }}{% endfor %}" + ASK,
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "formatted": (
        "{% for m in messages %}{{ '<|im_start|>%s\n%s<|im_end|>\n' | format(m.role, m.content) }}{% endfor %}" + ASK,
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "the last answer apart": (
        "{% for m in messages[:-1] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>{{ messages[-1].role }}\n{{ messages[-1].content }}<|im_end|>\n"
        "{% if messages[-1].role != 'assistant' and add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "without a loop": (
        "<|user|>{{ messages[0].content }}{% if messages | length > 1 %}<|assistant|>{{ messages[1].content }}<|end|>"
        "<|user|>{{ messages[2].content }}{% if messages | length > 3 %}<|assistant|>{{ messages[3].content }}<|end|>"
        "{% endif %}{% endif %}{{ '<|assistant|>' if add_generation_prompt }}",
        ["AAA<|end|>", "BBB<|end|>"],
    ),
    # Headers of all sorts, which are in the prompt of inference.
    "numbered": (
        "{% for m in messages %}{% if m.role == 'user' %}[Q{{ loop.index0 // 2 + 1 }}] {{ m.content }}\n"
        "{% else %}[A{{ loop.index0 // 2 + 1 }}] {{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt and messages[-1].role != 'assistant' %}[A{{ (messages | length) // 2 + 1 }}] "
        "{% endif %}",
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "named": (
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.name %} name={{ m.name }}{% endif %}{{ '\n' }}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt and messages[-1].role != 'assistant' %}"
        "<|im_start|>assistant\n{% endif %}",
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    "named in brackets": (
        "{% for m in messages %}{{ m.role }}{{ ' (' ~ m.name ~ ')' if m.name }}: {{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        ["AAA</s>", "BBB</s>"],
    ),
    "a prompt for reasoning": (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n"
        "{% else %}<|im_start|>assistant\n{% if m.reasoning %}Here are my reasoning steps:\n{{ m.reasoning }}\n"
        "[FINAL]\n{% endif %}{{ m.content }}<|im_end|>\n{% endif %}{% if loop.last and add_generation_prompt "
        "and m.role != 'assistant' %}<|im_start|>assistant\nHere are my reasoning steps:\n{% endif %}{% endfor %}",
        ["AAA<|im_end|>", "BBB<|im_end|>"],
    ),
    # The token that opens the next turn is where generation stops.
    "ended by the next role": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        ["AAA<|user|>", "BBB<|user|>"],
    ),
    "ended by the next role, a line after": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        ["AAA\n<|user|>", "BBB\n<|user|>"],
    ),
}
TALK: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "QQQ"},
    {"role": "assistant", "content": "AAA", "name": "anna"},
    {"role": "user", "content": "RRR", "name": "rolf"},
    {"role": "assistant", "content": "BBB", "name": "berta"},
)


def learned(tokenizer: PreTrainedTokenizerFast, messages: tuple[dict[str, Any], ...]) -> tuple[str, list[str]]:
    """The text that is read, and the texts in it that are learned."""
    encoded = Assistant().build(MaskingContext(tokenizer=tokenizer))(Example(origin="test", messages=messages))
    marked = "".join("\0" if label == -100 else tokenizer.decode(label) for label in encoded.labels)
    return tokenizer.decode(encoded.input_ids), [part for part in marked.split("\0") if part]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_answers_and_their_ends_are_learned(
    kind: str, speaking: Callable[[str | None], PreTrainedTokenizerFast]
) -> None:
    template, expected = KINDS[kind]
    tokenizer = speaking(template)
    text, found = learned(tokenizer, TALK)
    assert found == expected
    rendered = tokenizer.apply_chat_template(list(TALK), tokenize=False)
    assert text == rendered + ("<|user|>" if "next role" in kind else "")


QUESTION_FIRST = {"the question by index", "the question by loop", "the next question", "pairs", "without a loop"}
"""Such templates take the first message for the user's."""


@pytest.mark.parametrize("kind", sorted(set(KINDS) - QUESTION_FIRST))
def test_a_conversation_that_begins_with_the_assistant(
    kind: str, speaking: Callable[[str | None], PreTrainedTokenizerFast]
) -> None:
    """No messages stand before its first turn, whose header is known all the same: from how others are asked for."""
    found = learned(speaking(KINDS[kind][0]), TALK[1:])[1]
    assert found == KINDS[kind][1]


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content[:1] }}{{ messages[0].content }}{{ m.content[1:] }}"
            "<|end|>{% endfor %}" + ASK,
            "begins with|rewrites|never ends",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:1] }}{{ m.role }}{{ m.content[1:] }}"
            "<|im_end|>\n{% endfor %}" + ASK,
            "'assistant', the role of a message, into the middle of what message 2 says",
        ),
        (
            "{{ messages[1].content if messages | length > 1 }}" + ENDED + ASK,
            "writes the text of message 2, 'AAA', more than once",
        ),
        (ENDED.replace("{{ m.content }}", "{{ m.content | replace('A', 'C') }}") + ASK, "leaves out|rewrites"),
        (ENDED + "{% if add_generation_prompt %}<|assistant|>{% endif %}", "asks for an answer with '<|assistant|>'"),
        (ENDED, "ignores add_generation_prompt"),
    ],
)
def test_what_cannot_be_told_apart_is_an_error(
    template: str, sentence: str, speaking: Callable[[str | None], PreTrainedTokenizerFast]
) -> None:
    with pytest.raises(ValueError, match=sentence.replace("|>", r"\|>").replace("<|", r"<\|")):
        learned(speaking(template), TALK)


WORDS = (
    "{% for m in messages %}{{ 'USER: ' if m.role == 'user' else 'ASSISTANT: ' }}{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


def test_no_token_reaches_over_the_border_of_prompt_and_answer(
    speaking: Callable[[str | None], PreTrainedTokenizerFast],
) -> None:
    """The tokens in front of an answer are those that inference has; in a longer row, only its earlier cuts differ."""
    tokenizer = speaking(WORDS)
    assert tokenizer.tokenize("ASSISTANT: is") != [*tokenizer.tokenize("ASSISTANT: "), *tokenizer.tokenize("is")]
    encode = Assistant().build(MaskingContext(tokenizer=tokenizer))
    messages = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "is it"})
    encoded = encode(Example(origin="test", messages=messages))
    prompt = tokenizer.apply_chat_template([messages[0]], add_generation_prompt=True, return_dict=False)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert [label != -100 for label in encoded.labels].index(True) == len(prompt)

    longer = Example(origin="test", messages=messages * 2, completion_from=1)
    found = compare([longer], lambda example: [example], encode, tokenizer)
    assert (found.rows, len(found.last), len(found.earlier)) == (1, 0, 1)
    (problem,) = found.findings()
    assert "(where the answer of message 2 begins) inference has the tokens ' is' " in problem.message
    assert "training ' ' 'is' " in problem.message and "as-asked" in str(problem.hint)
