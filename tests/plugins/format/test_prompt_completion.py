"""A prompt and its completion, as text and as turns."""

from functools import partial
from typing import Any

import pytest

from fttool.api import Example
from fttool.rows.checks.noted import noted_row
from fttool_plugins.format.prompt_completion import PromptCompletion

from .reading import read_as, refused_as

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


read = partial(read_as, PromptCompletion)
refusal = partial(refused_as, PromptCompletion)


def turns(*contents: str, system: str = "") -> tuple[dict[str, str], ...]:
    """Turns of user and assistant, one after the other."""
    spoken = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    return (*([{"role": "system", "content": system}] if system else []), *spoken)


def test_text_is_a_turn_of_each_under_a_chat_template() -> None:
    example = read({"prompt": "2 + 2 =", "completion": " 4\n"}, chat=True)
    assert (example.messages, example.completion_from) == (turns("2 + 2 =", " 4\n"), 1)
    assert (example.prompt, example.completion) == ("", "")


@pytest.mark.parametrize(("chat", "options"), [(False, {}), (None, {}), (True, {"plain": True})])
def test_text_stays_text_without_a_template_and_where_that_is_asked(chat: bool | None, options: dict[str, Any]) -> None:
    example = read({"prompt": "2 + 2 =", "completion": " 4"}, chat=chat, **options)
    assert (example.prompt, example.completion, example.messages) == ("2 + 2 =", " 4", ())


def test_a_system_text_goes_in_front_and_a_rows_own_before_it() -> None:
    row = {"prompt": "a", "completion": "b"}
    assert read(row, chat=True, system="Be brief.").messages == turns("a", "b", system="Be brief.")
    example = read({**row, "system": "Rhyme."}, chat=True, system="Be brief.")
    assert (example.messages, example.completion_from) == (turns("a", "b", system="Rhyme."), 2)
    assert read({**row, "rules": "Sing."}, chat=True, system_column="rules").messages[0]["content"] == "Sing."
    of_turns = {"prompt": [SYSTEM, USER], "completion": [ASSISTANT]}
    assert read(of_turns, chat=True, system="Be brief.").messages == (SYSTEM, USER, ASSISTANT)
    assert read({**of_turns, "prompt": [USER]}, system="Be brief.").messages[0]["content"] == "Be brief."


def test_what_cannot_be_turns_is_refused() -> None:
    assert "to learn the row as plain text, set plain = true" in refusal({"prompt": " ", "completion": "b"}, chat=True)
    row = {"prompt": "a", "completion": "b", "system": "Rhyme."}
    assert "plain text has no turns" in refusal(row, chat=False)
    assert "there is one in 'system'" in refusal({"prompt": [SYSTEM, USER], "completion": [ASSISTANT], "system": "x"})


def test_a_column_inside_another_is_named_by_its_path() -> None:
    row, _, _ = noted_row({"data": {"q": "a", "a": "b", "id": 3}, "data.a": "the column of that very name"})
    example = read(row, prompt="data.q", completion="data.a")
    assert (example.prompt, example.completion) == ("a", "the column of that very name")


@pytest.mark.parametrize(("prompt", "completion"), [("2 + 2 =", " 4\n"), ("", "once upon a time")])
def test_text_is_left_as_it_stands(prompt: str, completion: str) -> None:
    expected = Example(origin="rows.jsonl:7", prompt=prompt, completion=completion)
    assert read({"prompt": prompt, "completion": completion}) == expected


def test_other_columns() -> None:
    example = read({"question": "a", "answer": "b", "prompt": "c"}, prompt="question", completion="answer")
    assert (example.prompt, example.completion) == ("a", "b")


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [([SYSTEM, USER], [ASSISTANT]), ([USER, ASSISTANT, USER], [ASSISTANT]), ([SYSTEM], [USER, ASSISTANT])],
)
def test_turns_make_one_conversation(prompt: list[Any], completion: list[Any]) -> None:
    row = {"prompt": prompt, "completion": completion, "tools": [{"name": "now"}]}
    assert read(row) == Example(
        origin="rows.jsonl:7",
        messages=(*prompt, *completion),
        completion_from=len(prompt),
        template={"tools": [{"name": "now"}]},
    )


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "a", "completion": ""}, "'completion' is empty, so there is nothing to learn"),
        ({"prompt": "a", "completion": " \n"}, "'completion' is empty, so there is nothing to learn"),
        ({"prompt": "a", "completion": None}, "'completion' is null"),
        ({"prompt": None, "completion": "b"}, "'prompt' is null"),
        ({"prompt": [USER], "completion": []}, "'completion' has no turns"),
        (
            {"prompt": [USER], "completion": [{"role": "assistant", "content": ""}]},
            "turn 1 of 'completion' (assistant) is empty; only an assistant turn with tool_calls may go without",
        ),
        (
            {"prompt": [USER], "completion": "b"},
            "'prompt' and 'completion' must both be text, or both be lists of turns, these are list and str",
        ),
        (
            {"prompt": 1, "completion": 2},
            "'prompt' and 'completion' must both be text, or both be lists of turns, these are int and int",
        ),
        (
            {"prompt": [USER], "completion": [USER, ASSISTANT]},
            "turns 1 and 2 are both of the user; join them, or drop one",
        ),
        (
            {"prompt": [USER], "completion": [ASSISTANT, USER]},
            "the conversation ends in the user; it must end in the assistant: drop the turn",
        ),
        (
            {"prompt": [{"role": "human", "content": "Hi"}], "completion": [ASSISTANT]},
            "turn 1 of 'prompt' has the role 'human': rename it to 'user'",
        ),
        (
            {"messages": []},
            "the row has no 'prompt' (its columns: 'messages'); it looks like format = \"messages\"",
        ),
        (
            {"prompts": "a", "completion": "b"},
            "the row has no 'prompt' (its columns: 'prompts', 'completion'); "
            'did you mean format = {name = "prompt-completion", prompt = "prompts"}?',
        ),
        (
            {"prompt": "a", "response": "b"},
            "the row has no 'completion' (its columns: 'prompt', 'response'); "
            'try format = {name = "prompt-completion", prompt = "prompt", completion = "response"}',
        ),
        (
            {"question": "a", "answer": "b"},
            "the row has no 'prompt' (its columns: 'question', 'answer'); "
            'try format = {name = "prompt-completion", prompt = "question", completion = "answer"}',
        ),
    ],
)
def test_bad_rows(row: dict[str, Any], sentence: str) -> None:
    assert refusal(row) == sentence


def test_marked_turns_of_both_columns_are_read_and_not_learned() -> None:
    prompt = [USER, {**ASSISTANT, "weight": 0}, USER]
    completion = [{**ASSISTANT, "train": False}, USER, ASSISTANT]
    assert read({"prompt": prompt, "completion": completion}).unlearned == {1, 3}
