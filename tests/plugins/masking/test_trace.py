"""Marks name the message that wrote a part of the text, and leave the text as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fttool_plugins.masking.trace import Span, Tracer

TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!", "parts": ["a", "b"]},
    {"role": "user", "content": "And?"},
]


@pytest.fixture
def trace(speaking: Callable[[str], PreTrainedTokenizerFast]) -> Callable[[str], tuple[str, list[Span]]]:
    """The text and the spans that are not empty, once the text is known to be the unmarked render."""

    def render(template: str) -> tuple[str, list[Span]]:
        tokenizer = speaking(template)
        found = Tracer(tokenizer).trace(TALK, {})
        assert found.text == tokenizer.apply_chat_template(TALK, tokenize=False)
        return found.text, [span for span in found.spans if span.start < span.end]

    return render


@pytest.mark.parametrize("opening", ["{%", "{%-", "{%+"])
@pytest.mark.parametrize("closing", ["%}", "-%}", "+%}"])
@pytest.mark.parametrize("gap", ["", " ", "\n", "\n  ", "  \n\n", "{\n", "{# no #}\n", "{#- no -#} "])
def test_white_space_around_tags_stays_as_it_is(
    opening: str, closing: str, gap: str, trace: Callable[[str], tuple[str, list[Span]]]
) -> None:
    loop = f"{opening} for m in messages {closing}"
    pick = f"{opening} set said = m.content {closing}"
    end = f"{opening} endfor {closing}"
    text, spans = trace(f"a{gap}{loop}{gap}{pick}{gap}{{{{ said }}}}{gap}{end}{gap}b{gap}{{{{ 'c' }}}}\n\n")
    assert [span.message for span in spans] == [0, 1, 2]
    assert [text[span.start : span.end].strip(" \n{") for span in spans] == ["Hi", "Hello!", "And?"]


def test_a_span_is_what_one_round_writes(trace: Callable[[str], tuple[str, list[Span]]]) -> None:
    text, spans = trace("<{% for m in messages %}[{{ m.content }}]{% endfor %}>")
    assert [(span.message, text[span.start : span.end]) for span in spans] == [
        (0, "[Hi]"),
        (1, "[Hello!]"),
        (2, "[And?]"),
    ]
    assert text == "<[Hi][Hello!][And?]>"


def test_inner_loops_belong_to_the_message_of_the_outer_one(trace: Callable[[str], tuple[str, list[Span]]]) -> None:
    template = "{% for m in messages %}({% for p in m.parts or [] %}{% set q = p %}{{ q }}{% endfor %}){% endfor %}"
    text, spans = trace(template)
    assert [(span.message, text[span.start : span.end]) for span in spans] == [(0, "()"), (1, "(ab)"), (2, "()")]


def test_a_message_written_in_the_round_of_another_has_a_span_inside(
    trace: Callable[[str], tuple[str, list[Span]]],
) -> None:
    text, spans = trace(
        "{% for m in messages[:2] %}<{{ m.role }}{% for i in range(loop.index0 + 1, 3) %}"
        "{% set next = messages[i] %}|{{ next.content }}{% endfor %}>{% endfor %}"
    )
    assert [(span.message, text[span.start : span.end]) for span in spans] == [
        (1, "|Hello!"),
        (2, "|And?"),
        (0, "<user|Hello!|And?>"),
        (2, "|And?"),
        (1, "<assistant|And?>"),
    ]


def test_the_first_message_that_a_round_picks_is_its_own(trace: Callable[[str], tuple[str, list[Span]]]) -> None:
    text, spans = trace(
        "{% for i in range(messages | length) %}"
        "{% set now = messages[i] %}{% set next = messages[i + 1] if i < 2 else none %}{{ now.content }};{% endfor %}"
    )
    assert [(span.message, text[span.start : span.end]) for span in spans] == [(0, "Hi;"), (1, "Hello!;"), (2, "And?;")]


@pytest.mark.parametrize(
    "template",
    [
        "{% raw %}{% for m in messages %}{% endraw %}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{# {% for m in messages %} #}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{{ '{% for m in messages %}' }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% else %}none{% endfor %}",
        "{% for role, text in [('a', 'b')] %}{{ role }}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% macro f(m, sep=';') %}{% for c in m.content %}{{ c }}{% endfor %}{{ sep }}{% endmacro %}"
        "{% for m in messages %}{{ 'x' if f(m) | length > 3 }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% filter truncate(length=9) %}{% for p in 'ab' %}{{ p }}{% endfor %}{% endfilter %}"
        "{{ m.content }}{% endfor %}",
        "{% set t | trim %} {% for m in messages %}{{ m.content }}{% endfor %} {% endset %}"
        "{% for m in messages %}{{ m.content }}{{ t | length }}{% endfor %}",
    ],
)
def test_what_only_looks_like_a_loop_or_is_looked_at_stays_as_it_is(
    template: str, trace: Callable[[str], tuple[str, list[Span]]]
) -> None:
    _, spans = trace(template)
    assert [span.message for span in spans] == [0, 1, 2]


def test_marks_cannot_be_foreseen(speaking: Callable[[str], PreTrainedTokenizerFast]) -> None:
    tokenizer = speaking("{% for m in messages %}{{ m.content }}{% endfor %}")
    said = [{"role": "user", "content": "0:0:1; 0!; fttool_message"}]
    assert Tracer(tokenizer).trace(said, {}).spans == (Span(0, 0, 25),)
