"""Arguments of calls reach each chat template in the one form that it writes as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fttool.contracts.rows import Example
from fttool.rows.checks.calls import CallForm
from fttool.testing import tiny_tokenizer

CALL = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"city": "Oslo", "n": [1]}}}
TURNS: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "x", "tool_calls": [CALL]},
    {"role": "tool", "content": "1"},
    {"role": "assistant", "content": "done"},
)
EXAMPLE = Example(origin="f:1", messages=TURNS, completion_from=3)
LOOP = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
AFTER = "{% endfor %}{% endfor %}"
TEMPLATES = {
    "an object": (LOOP + "{{ c.function.arguments | tojson }}" + AFTER, False),
    "its items": (LOOP + "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}" + AFTER, False),
    "either": (
        LOOP
        + "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}"
        + AFTER,
        False,
    ),
    "joined text": (LOOP + "{{ 'call ' + c.function.arguments }}" + AFTER, True),
    "text as it is": (LOOP + "{{ c.function.arguments }}" + AFTER, True),
    "no calls": (LOOP + AFTER, False),
    "nothing at all": ("{{ raise_exception('No.') }}", False),
}


def shaped(template: str | None) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return CallForm(tokenizer).shaped(EXAMPLE).messages[1]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_form_is_the_one_that_the_template_writes(kind: str) -> None:
    template, wants_text = TEMPLATES[kind]
    assert shaped(template) == ('{"city": "Oslo", "n": [1]}' if wants_text else {"city": "Oslo", "n": [1]})


@pytest.mark.parametrize(("name", "wants_text"), [("deepseekv3", True), ("qwen3", False), ("glm4moe", False)])
def test_templates_in_use(name: str, wants_text: bool) -> None:
    import trl

    template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    assert isinstance(shaped(template), str) == wants_text


def test_rows_without_calls_cost_no_render_and_stay_as_they_are() -> None:
    plain = Example(origin="f:1", messages=(TURNS[0], TURNS[3]))
    assert CallForm(None).shaped(plain) is plain  # pyright: ignore[reportArgumentType]
    assert shaped(None) == {"city": "Oslo", "n": [1]}
