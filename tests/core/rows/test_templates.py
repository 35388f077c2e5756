"""A chat template that does not end, or takes all there is, is an error; one that means well never notices a limit."""

from __future__ import annotations

import ast
import resource
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fttool.errors import ModelError
from fttool.rows import limits
from fttool.rows.templates import chat_ids, chat_text
from fttool.testing import tiny_tokenizer

from ...rows import write_rows

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
ROUND = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
ENDLESS = {
    "loops": LOOP,
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(40) }}",
    "a power": "{{ (9 ** (10 ** (messages|length * 5))) % 7 }}",
    "a power of constants": "{{ (9 ** (9 ** 9)) % 7 }}",
}
LARGE = {
    "text times a number": "{{ ('x' * 10 ** (9 + messages|length))|length }}",
    "text times a constant": "{{ ('x' * 10 ** 11)|length }}",
    "doubling": "{% set n = namespace(x='0123456789') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "padding": "{{ 'x'.center(10 ** 11)|length }}",
    "a width": "{{ ('%' ~ 10 ** 10 ~ 'd')|format(messages|length)|length }}",
    "an indent": "{{ 'x'|indent(10 ** 11, true)|length }}",
    "a list": "{{ ([0] * 10 ** 10)|length }}",
}


def tokenizer(template: str) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.3)
    monkeypatch.setattr(limits, "MEMORY", 2**28)


def nothing_is_left() -> bool:
    """No timer, handler or limit of memory stays behind."""
    idle = signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    unlimited = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    return idle and unlimited and signal.getsignal(signal.SIGVTALRM) == signal.SIG_DFL


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_does_not_end_is_ended(kind: str, quick: None) -> None:
    with pytest.raises(ModelError, match=r"does not end: 0\.3 seconds of computing") as refused:
        chat_text(tokenizer(ENDLESS[kind] + ROUND), TALK)
    assert refused.value.problems[0].key == ("model", "chat_template") and refused.value.problems[0].hint
    assert nothing_is_left()


def test_between_a_render_and_the_end_of_its_limits_nothing_is_raised() -> None:
    """There nobody would catch it: time may run out while the code of `with` statements runs."""

    def interrupted(file: str) -> None:
        handler: Any = signal.getsignal(signal.SIGVTALRM)
        handler(signal.SIGVTALRM, SimpleNamespace(f_code=SimpleNamespace(co_filename=file)))

    with limits.template_limits():
        interrupted(limits.__file__)
    with pytest.raises(ModelError, match="does not end"), limits.template_limits():
        interrupted("<template>")
    assert nothing_is_left()


@pytest.mark.skipif(not Path(limits.PAGES).exists(), reason="the system does not tell what a process holds")
@pytest.mark.parametrize("kind", LARGE)
def test_what_takes_all_memory_is_refused(kind: str, quick: None) -> None:
    with pytest.raises(ModelError, match="takes over 256 MiB of memory"):
        chat_text(tokenizer(LARGE[kind] + ROUND), TALK)
    assert nothing_is_left()


def test_what_writes_without_measure_is_refused() -> None:
    with pytest.raises(ModelError, match=r"writes 2,000,0\d\d characters for a conversation of \d+"):
        chat_text(tokenizer("{{ 'x' * 2000000 }}" + ROUND), TALK)


def test_a_long_conversation_may_be_written() -> None:
    long = [{"role": "user", "content": "x" * 2_000_000}, TALK[1]]
    assert len(chat_text(tokenizer(ROUND), long)) > 2_000_000


def test_text_and_tokens_are_those_of_transformers() -> None:
    one = tokenizer(ROUND + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{{ tools }}{{ mood }}")
    for more in (
        {},
        {"add_generation_prompt": True},
        {"mood": "glad", "tools": [{"type": "function", "function": {}}]},
    ):
        assert chat_text(one, TALK, **more) == one.apply_chat_template(TALK, tokenize=False, **more)
        assert chat_ids(one, TALK, **more) == one.apply_chat_template(TALK, return_dict=False, **more)
    assert chat_text(one, TALK, chat_template="{{ messages|length }}") == "2"


def test_what_the_template_raises_comes_through() -> None:
    with pytest.raises(Exception, match="roles must alternate"):
        chat_text(tokenizer("{{ raise_exception('roles must alternate') }}"), TALK)
    assert nothing_is_left()


def test_it_works_in_another_thread_than_the_first() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(chat_text(tokenizer(ROUND), TALK)))
    thread.start()
    thread.join()
    assert found == [chat_text(tokenizer(ROUND), TALK)]


def test_nothing_writes_conversations_but_through_this_door() -> None:
    root = Path(__file__).parents[3]
    files = [*root.glob("core/**/*.py"), *root.glob("plugins/**/*.py")]
    callers = [
        file.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".apply_chat_template")
    ]
    assert set(callers) == {"templates.py"}


@pytest.mark.parametrize(
    "template",
    [LOOP + ROUND, ROUND + "{% if add_generation_prompt %}" + LOOP + "{% endif %}"],
    ids=["always", "where an answer is asked for"],
)
def test_a_run_and_a_preview_end_with_an_error(
    template: str, fttool_recipe: dict[str, Any], tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from tomli_w import dumps

    from fttool.cli import main

    (tmp_path / "t.jinja").write_text(template, encoding="utf-8")
    rows = [{"messages": TALK}] * 4
    write_rows(tmp_path / "rows.jsonl", rows)
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 1, "output": str(tmp_path / "runs")},
        "model": {"source": "builtin:tiny-chat", "chat_template": "t.jinja"},
        "data": {"train": [{"path": "rows.jsonl", "format": "messages"}]},
    }
    (tmp_path / "r.toml").write_text(dumps(recipe), encoding="utf-8")
    for verb in ("preview", "run"):
        assert main([verb, str(tmp_path / "r.toml")]) == 5
        assert "the chat template does not end" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_template_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    from fttool.rows.chat import apply_template

    for text in ("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}", "x" * (2**20 + 1)):
        (tmp_path / "t.jinja").write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match=r"nested too deeply|too large for a chat template"):
            apply_template(tiny_tokenizer(), "t.jinja", tmp_path)
