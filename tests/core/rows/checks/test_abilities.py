"""What a chat template can write of what rows have: templates that are known, and some that leave one thing out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.contracts.rows import Example
from fttool.errors import ModelError
from fttool.recipe.reading import load
from fttool.rows.checks.abilities import Abilities
from fttool.rows.data import prepare
from fttool.testing import tiny_tokenizer

USER: dict[str, Any] = {"role": "user", "content": "Is it cold?"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "It is."}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is outside.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}},
    },
}


def calling(arguments: Any, content: str | None = "") -> dict[str, Any]:
    call = {"type": "function", "id": "a2345678z", "function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


ROWS: dict[str, Example] = {
    "tools": Example(origin="r:1", messages=(USER, ANSWER), template={"tools": [TOOL]}),
    "tool calls": Example(
        origin="r:2",
        messages=(
            USER,
            calling({"city": "Rome"}),
            {"role": "tool", "content": "8", "tool_call_id": "a2345678z"},
            ANSWER,
        ),
    ),
    "thoughts": Example(origin="r:3", messages=(USER, {**ANSWER, "reasoning_content": "Eight degrees."})),
    "names": Example(origin="r:4", messages=({**USER, "name": "anna"}, ANSWER)),
}


def lacking(template: str) -> set[str]:
    """What the template cannot write, by the words of the error or the remark."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template, tokenizer.bos_token = template, "<|im_start|>"
    found = set[str]()
    for words, row in ROWS.items():
        try:
            if Abilities(tokenizer).check(row):
                found.add(words)
        except ModelError as wrong:
            assert f"cannot write {words}" in str(wrong) and row.origin in str(wrong)
            assert wrong.problems[0].key == ("model", "chat_template")
            found.add(words)
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen3", {"names"}),
        ("qwen2_5", {"thoughts", "names"}),
        ("glm4moe", {"names"}),
        ("gptoss", {"names"}),
        ("llama3_1", {"thoughts", "names"}),
        ("llama3", {"tools", "tool calls", "thoughts", "names"}),
        ("phi3", {"tools", "tool calls", "thoughts", "names"}),
        ("lfm2", {"tool calls", "thoughts", "names"}),
    ],
)
def test_templates_that_are_known(name: str, expected: set[str]) -> None:
    """By what their makers document of them."""
    import trl

    assert lacking((Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()) == expected


WRITES_ALL = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name }}\n"
    "{{ m.reasoning_content or '' }}{{ m.content or '' }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
)


@pytest.mark.parametrize(
    ("written", "instead", "expected"),
    [
        ("", "", set()),
        ("tools | tojson", "tools | map(attribute='function.name') | join", {"tools"}),
        ("tools | tojson", "tools[0].function.name ~ tools[0].function.description", {"tools"}),
        ("{{ c.function.arguments | tojson }}", "", {"tool calls"}),
        ("c.function.arguments | tojson", "c.function.arguments.keys() | join", {"tool calls"}),
        ("c.function.name", "c.function.name | upper", {"tool calls"}),
        ("m.reasoning_content or ''", "(m.reasoning_content or '')[:2]", {"thoughts"}),
        ("{{ m.content or '' }}", "{{ m['content'] + '' }}", set()),
        ("{{ m.reasoning_content or '' }}", "{{ m.reasoning_content if loop.last else '' }}", set()),
        (
            "{% for c in m.tool_calls or [] %}",
            "{% for c in (raise_exception('No.') if m.tool_calls else []) %}",
            {"tool calls"},
        ),
        ("{% for c in m.tool_calls or [] %}", "{{ raise_exception('No.') }}{% for c in [] %}", set()),
    ],
)
def test_what_is_left_out_is_found(written: str, instead: str, expected: set[str]) -> None:
    assert lacking(WRITES_ALL.replace(written, instead)) == expected


def test_a_template_that_wants_arguments_as_text_is_able() -> None:
    """Though the row has an object, which it refuses: that is the row's form, not the template's lack."""
    text = WRITES_ALL.replace("c.function.arguments | tojson", "'' + c.function.arguments")
    assert "tool calls" not in lacking(text)


def test_earlier_thoughts_that_are_dropped_by_design_are_no_fault() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = WRITES_ALL.replace(
        "{{ m.reasoning_content or '' }}", "{{ m.reasoning_content if loop.last }}"
    )
    early = (USER, {**ANSWER, "reasoning_content": "Eight."}, USER, ANSWER)
    assert not Abilities(tokenizer).check(Example(origin="r:1", messages=early))


def test_it_is_asked_once_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = WRITES_ALL
    renders: list[Any] = []
    own = type(tokenizer).apply_chat_template
    monkeypatch.setattr(
        type(tokenizer), "apply_chat_template", lambda self, *a, **k: renders.append(a) or own(self, *a, **k)
    )
    abilities = Abilities(tokenizer)
    for _ in range(20):
        for row in ROWS.values():
            abilities.check(row)
    assert len(renders) == len(ROWS)


KEYS: dict[str, Any] = {
    "images": ["a.png"],
    "function_call": {"name": "weather", "arguments": "{}"},
    "documents": [{"title": "a"}],
    "thought": "Hm.",
    "context": "It snows.",
}
OTHERS: dict[str, Any] = {"citations": ["a"], "analysis": "Hm.", "id": 7, "at": {"x": 1.5}, "seen": True}


@pytest.mark.parametrize("key", [*KEYS, *OTHERS])
@pytest.mark.parametrize("place", [0, 1], ids=["asked", "answered"])
def test_a_key_of_turns_that_the_template_leaves_out(key: str, place: int) -> None:
    """Refused where it means something to others, and remarked upon where it does not; written, it is neither."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = WRITES_ALL
    turns = [USER, ANSWER]
    turns[place] = {**turns[place], key: {**KEYS, **OTHERS}[key]}
    row = Example(origin="r:1", messages=tuple(turns))
    if key in KEYS:
        with pytest.raises(ModelError, match=rf"the chat template cannot write '{key}' of turns: .*\(r:1\)") as caught:
            Abilities(tokenizer).check(row)
        assert f'ignore = ["{key}"]' in str(caught.value)
    else:
        assert Abilities(tokenizer).check(row) == [f"with '{key}' of turns, which the chat template leaves out"]
    tokenizer.chat_template = WRITES_ALL.replace(
        "<|im_end|>", f"{{{{ m['{key}'] | tojson if '{key}' in m }}}}<|im_end|>"
    )
    assert not Abilities(tokenizer).check(row)


def test_variables_that_the_template_does_not_know() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = WRITES_ALL + "{% if enable_thinking %}{% endif %}"
    variables = {"enable_thinking": False, "thinking_budget": 3}
    row = Example(origin="r:1", messages=(USER, ANSWER), template=variables)
    (remark,) = Abilities(tokenizer).check(row)
    assert remark == "with the variable 'thinking_budget', which the chat template does not know"
    documents = Example(origin="r:1", messages=(USER, ANSWER), template={"documents": [{"text": "a"}]})
    with pytest.raises(ModelError, match="cannot write documents: it has no such variable"):
        Abilities(tokenizer).check(documents)


def prepared(tmp_path: Path, *rows: Example) -> Any:
    lines = [{"messages": row.messages, **({"tools": row.template["tools"]} if row.template else {})} for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [{"path": "rows.jsonl"}]}}
    (tmp_path / "r.toml").write_text(dumps(recipe))
    return prepare(load(tmp_path / "r.toml"), tiny_tokenizer())


def test_the_template_is_blamed_and_not_the_row(tmp_path: Path) -> None:
    """Null beside a call makes ChatML fail at the content, before it comes to the call that it does not know."""
    row = Example(origin="", messages=(USER, calling({}, None), {"role": "tool", "content": "1"}, ANSWER))
    with pytest.raises(ModelError, match=r"the chat template cannot write tool calls: .*rows.jsonl:1") as refused:
        prepared(tmp_path, row)
    assert "fix or delete" not in str(refused.value) and refused.value.exit_code == 5


def test_names_that_are_left_out_are_counted(tmp_path: Path) -> None:
    rows = prepared(tmp_path, ROWS["names"], Example(origin="", messages=(USER, ANSWER)))
    assert rows.learned.remarks == {"with a name of the user's turns, which the chat template leaves out": 1}
