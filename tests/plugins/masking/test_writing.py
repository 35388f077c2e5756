"""The text of a render is that of `apply_chat_template`, and each character has the owner that wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from fttool_plugins.masking.owned import SEVERAL
from fttool_plugins.masking.writing import Writer

LETTERS: dict[tuple[int | None, str], str] = {
    (0, "content"): "\ue000",
    (1, "content"): "\ue001",
    (1, "reasoning_content"): "\ue002",
    (1, "thinking"): "\ue002",  # transformers gives a thought this name too
    (2, "content"): "\ue003",
}
"""What each text is made of: no template has these characters of its own."""


def said(place: int, field: str, form: str) -> str:
    return form.replace("x", LETTERS[place, field])


def talk(form: str = " xx\nx ") -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": said(0, "content", form)},
        {
            "role": "assistant",
            "content": said(1, "content", form),
            "reasoning_content": said(1, "reasoning_content", form),
        },
        {"role": "user", "content": said(2, "content", form)},
    ]


TEMPLATES = {
    "loop": "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ m['reasoning_content'] }}{% endfor %}",
    "one string": "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s ~ '<' ~ m.content ~ '>' %}"
    "{% endfor %}{{ ns.s }}",
    "added": "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + '<' + m.content + '>' %}"
    "{% endfor %}{{ ns.s.strip() }}",
    "safe, which escapes": "{% for m in messages %}{{ '<a>' | safe + '<' + m.content + '>' + m.role }}"
    "{{ m.content + '&' | safe }}{{ ('%s<' | safe) % m.content }}{{ ('|' | safe).join([m.content, '<']) }}{% endfor %}",
    "macro": "{% macro say(m, end='') %}<{{ m.content.strip() }}>{{ end }}{{ caller() if caller }}{% endmacro %}"
    "{% for m in messages %}{{ say(m, end=m.content) }}{% call say(m) %}{{ m.content }}{% endcall %}{% endfor %}",
    "captured": "{% for m in messages %}{% set s %}a{{ m.content }}{% endset %}{{ s | upper }}{% filter trim %} {{ s }}"
    " {% endfilter %}{% endfor %}",
    "by index": "{% for i in range(messages | length) %}{{ messages[i - 1].content }}|{{ messages[i].content }}"
    "{% endfor %}",
    "neighbours": "{% for m in messages %}{{ loop.previtem.content if loop.previtem }}{{ m.content }}"
    "{{ loop.nextitem['content'] if not loop.last }}{% endfor %}",
    "pairs": "{% for pair in messages | batch(2) %}{{ pair[0].content }}:{{ pair[1].content if pair[1] }};{% endfor %}",
    "filters": "{{ messages | map(attribute='content') | join(', ') }}"
    "{{ messages | map(attribute='content') | list | last }}"
    "{{ (messages | selectattr('role', 'equalto', 'user') | first).content | replace('\ue000', 'o') }}",
    "indented": "{% for m in messages %}{{ m.content | indent(4) }}{{ m.content | string | center(20) }}{% endfor %}",
    "formatted": "{% for m in messages %}{{ '<%s> %s' | format(m.role, m.content) }}"
    "{{ '{}|{a}'.format(m.content, a=1) }}"
    "{{ '%s' % m.content }}{{ '%s%s' % (m.content, 1) }}{% endfor %}",
    "methods of plain text": "{% for m in messages %}{{', '.join([m.content, m.role]) }}"
    "{{ 'a-b'.replace('-', m.content) }}"
    "{% endfor %}",
    "json": "{{ messages | tojson }}{% for m in messages %}{{ m.content | tojson }}"
    "{{ {'a': m.content} | tojson(indent=2) }}"
    "{% endfor %}",
    "as Python prints it": "{{ messages }}{{ [messages[0].content] ~ 'a' }}{{ messages | list | string }}",
    "split": "{% for m in messages %}{{ m.content.split('\n')[0] }}/"
    "{{ (m.content ~ '</think>b').split('</think>')[-2] }}"
    "{% for line in m.content.splitlines() %}{{ loop.index }}{{ line }}{% endfor %}{% for c in m.content %}{{ c }}-"
    "{% endfor %}{% endfor %}",
    "sliced": "{% for m in messages %}{{ m.content[1:3] }}{{ m.content[::-1] }}{{ m.content[0] }}{% endfor %}",
    "escaped": "{% for m in messages %}{{ m.content | e }}{{ m.content | wordwrap(3) }}{% endfor %}",
    "copied": "{% for m in messages %}{% set n = dict(m, content=m.content ~ '!') %}{{ n.content }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}",
}


@pytest.mark.parametrize("form", [" xx\nx ", "x", '"x" <x>', "  x</think>x", ""])
@pytest.mark.parametrize("shape", TEMPLATES)
def test_no_character_of_a_message_passes_for_the_templates(
    shape: str, form: str, speaking: Callable[[str | None], PreTrainedTokenizerFast]
) -> None:
    tokenizer = speaking(TEMPLATES[shape])
    for asked in (False, True):
        written = Writer(tokenizer).write(talk(form), {}, add_generation_prompt=asked)
        expected = tokenizer.apply_chat_template(talk(form), tokenize=False, add_generation_prompt=asked)
        assert written.text == expected
        assert type(written.text) is str
        for place, letter in enumerate(written.text):
            owner = written.owner(place)
            if letter in LETTERS.values():
                assert owner is not None
                # Escapes and Python's own way to print a list are followed as a whole.
                assert LETTERS.get((owner.message, owner.field)) == letter or owner == SEVERAL


def test_ownership_is_exact_where_text_is_only_moved(
    speaking: Callable[[str | None], PreTrainedTokenizerFast],
) -> None:
    exact = [shape for shape in TEMPLATES if shape not in ("indented", "escaped", "as Python prints it", "filters")]
    for shape in exact:
        written = Writer(speaking(TEMPLATES[shape])).write(talk("xx"), {})
        for place, letter in enumerate(written.text):
            owner = written.owner(place)
            if letter in LETTERS.values():
                assert owner is not None
                assert LETTERS[owner.message, owner.field] == letter, shape
            else:
                assert owner is None or owner.field == "role", (shape, written.text[place - 5 : place + 5])


def test_tools_are_owned_by_no_message(speaking: Callable[[str | None], PreTrainedTokenizerFast]) -> None:
    tokenizer = speaking("{{ tools | tojson }}{{ mood }}{{ bos_token }}{{ messages[0].content }}")
    written = Writer(tokenizer).write([{"role": "user", "content": "Hi"}], {"tools": [{"name": "t"}], "mood": "calm"})
    assert written.text == '[{"name": "t"}]calm<s>Hi'
    assert [(written.text[run.start : run.end], run.owner.message, run.owner.field) for run in written.runs] == [
        ("name", None, "tools"),
        ("t", None, "tools"),
        ("Hi", 0, "content"),
    ]
