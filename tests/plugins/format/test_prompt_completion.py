"""A prompt and its completion, as text and as turns."""

from functools import partial
from typing import Any

import pytest

from fttool.api import Example
from fttool_plugins.format.prompt_completion import PromptCompletion

from .reading import read_as, refused_as

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


read = partial(read_as, PromptCompletion)
refusal = partial(refused_as, PromptCompletion)


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
