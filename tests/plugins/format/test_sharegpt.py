"""Conversations whose speakers have many names; an unknown one is named, and a first answer is refused by default."""

import json
from collections import Counter
from functools import partial
from typing import Any

import pytest

from fttool.api import Example, FormatContext
from fttool_plugins.format.messages import Messages
from fttool_plugins.format.sharegpt import ShareGPT

from .reading import read_as, refused_as

HUMAN = {"from": "human", "value": "Hi"}
GPT = {"from": "gpt", "value": "Hello"}
TALK = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})


read = partial(read_as, ShareGPT)
refusal = partial(refused_as, ShareGPT)


def test_a_conversation() -> None:
    expected = Example(origin="rows.jsonl:7", messages=TALK, completion_from=1)
    assert read({"conversations": [HUMAN, GPT], "id": "a"}) == expected
    assert read({"conversations": [{"role": "user", "content": "Hi"}, GPT]}) == expected
    assert read({"talk": [HUMAN, GPT]}, column="talk") == expected


@pytest.mark.parametrize("asking", ["human", "user", "Human", " USER "])
@pytest.mark.parametrize("answering", ["gpt", "assistant", "bing", "bard", "chatgpt", "GPT", "ChatGPT"])
def test_speakers_by_many_names(asking: str, answering: str) -> None:
    turns = [{"from": asking, "value": "Hi"}, {"from": answering, "value": "Hello"}]
    assert read({"conversations": turns}).messages == TALK


def test_a_system_turn_of_its_own_or_in_a_column() -> None:
    system = {"role": "system", "content": "Be kind."}
    assert read({"conversations": [{"from": "system", "value": "Be kind."}, HUMAN, GPT]}).messages == (system, *TALK)
    assert read({"conversations": [HUMAN, GPT], "system": "Be kind."}).messages == (system, *TALK)
    assert read({"conversations": [HUMAN, GPT], "as": "Be kind."}, system="as").messages == (system, *TALK)
    for empty in (None, "", "  "):
        assert read({"conversations": [HUMAN, GPT], "system": empty}).messages == TALK
    both = {"conversations": [{"from": "system", "value": "a"}, HUMAN, GPT], "system": "b"}
    assert refusal(both) == "'conversations' begins with a system turn, and there is one in 'system' too"


def test_calls_and_what_they_bring() -> None:
    """The same conversation in the layout of `messages` is the same example."""
    call = {"name": "weather", "arguments": {"city": "Oslo"}}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    turns = [
        HUMAN,
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "snow"},
        GPT,
    ]
    same = [
        TALK[0],
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": call}]},
        {"role": "tool", "content": "snow"},
        TALK[1],
    ]
    expected = Messages().build(FormatContext(origin=""))({"messages": same, "tools": tools}, "rows.jsonl:7")
    assert read({"conversations": turns, "tools": json.dumps(tools)}) == expected
    several = [HUMAN, {"from": "function_call", "value": json.dumps([call, call])}, turns[2], GPT]
    assert len(read({"conversations": several}).messages[1]["tool_calls"]) == 2
    for value in ("weather(Oslo)", "{}", "[]", "[1]", None, 3):
        assert "turn 2 of 'conversations' (function_call)" in refusal(
            {"conversations": [HUMAN, {"from": "function_call", "value": value}, turns[2], GPT]}
        )


def test_marks_are_obeyed_and_further_keys_kept() -> None:
    turns = [HUMAN, {**GPT, "value": "Wrong.", "weight": 0}, HUMAN, {**GPT, "name": "Ada"}]
    example = read({"conversations": turns})
    assert example.unlearned == {1}
    assert example.messages[3] == {**TALK[1], "name": "Ada"}


def test_an_unknown_speaker_is_named_and_can_be_mapped() -> None:
    row = {"conversations": [{"from": "narrator", "value": "Hi"}, GPT]}
    said = refusal(row)
    assert said.startswith("turn 1 of 'conversations' is of 'narrator', which is not known: say who speaks: ")
    assert 'format = {name = "sharegpt", roles = {"narrator" = "user"}}' in said
    assert read(row, roles={"narrator": "user"}).messages == TALK
    assert "did you mean 'human'?" in refusal({"conversations": [{"from": "humam", "value": "Hi"}, GPT]})
    assert refusal({"conversations": [{"from": None, "value": "Hi"}]}) == (
        "the speaker of turn 1 of 'conversations' must be text, this is NoneType"
    )


def test_what_a_recipe_maps_goes_before_what_is_known() -> None:
    turns = [{"from": "gpt", "value": "Hi"}, {"from": "human", "value": "Hello"}]
    assert read({"conversations": turns}, roles={"gpt": "user", "human": "assistant"}).messages == TALK


@pytest.mark.parametrize("front", [[], [{"from": "system", "value": "Be kind."}]])
def test_an_answer_that_nobody_asked_for(front: list[Any]) -> None:
    row = {"conversations": [*front, {"from": "gpt", "value": "Welcome!"}, HUMAN, {**GPT, "train": False}, HUMAN, GPT]}
    said = refusal(row)
    assert said.startswith("the assistant speaks first in 'conversations', in answer to nothing; choose: ")
    assert 'leading_assistant = "drop"' in said
    notes = Counter[str]()
    dropped, kept = read(row, notes, leading_assistant="drop"), read(row, notes, leading_assistant="keep")
    assert [m["content"] for m in dropped.messages[len(front) :]] == ["Hi", "Hello", "Hi", "Hello"]
    assert dropped.unlearned == {len(front) + 1} and kept.unlearned == {len(front) + 2}
    assert [m["content"] for m in kept.messages[len(front) :]] == ["Welcome!", "Hi", "Hello", "Hi", "Hello"]
    assert list(notes.values()) == [1], "what is left out is counted, what is kept is not"


def test_nothing_but_an_answer_that_nobody_asked_for_is_refused() -> None:
    assert "has no turn but" in refusal({"conversations": [GPT]}, leading_assistant="drop")


def test_the_same_said_twice_is_read_once() -> None:
    turns = [{**HUMAN, "role": "user", "content": "Hi"}, {**GPT, "role": None, "content": ""}]
    assert read({"conversations": turns}) == read({"conversations": [HUMAN, GPT]})


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"conversations": [HUMAN]}, "the conversation has no assistant turn, so there is nothing to learn"),
        ({"conversations": [HUMAN, GPT, HUMAN]}, "the conversation ends in the user"),
        ({"conversations": [HUMAN, HUMAN, GPT]}, "turns 1 and 2 are both of the user"),
        ({"conversations": []}, "'conversations' has no turns"),
        ({"conversations": "Hi"}, "'conversations' is a string"),
        ({"conversations": ["Hi"]}, 'turn 1 of \'conversations\' must be {"from": …, "value": …}, this is str'),
        ({"conversations": [{"value": "Hi"}]}, "turn 1 of 'conversations' has neither 'from' nor 'role'"),
        ({"conversations": [HUMAN, {"from": "gpt", "value": ""}]}, "turn 2 of 'conversations' (gpt) is empty"),
        (
            {"conversations": [HUMAN, {**GPT, "content": "Other"}]},
            "turn 2 of 'conversations' has 'value' and 'content', ",
        ),
        (
            {"conversations": [{**HUMAN, "role": "system"}, GPT]},
            "turn 1 of 'conversations' has 'from' and 'role', which",
        ),
        ({"conversations": [HUMAN, {"from": "gpt"}]}, "turn 2 of 'conversations' (gpt)"),
        ({"conversations": [HUMAN, GPT], "system": 3}, "'system' must be text, this is int"),
        ({"messages": []}, "the row has no 'conversations' (its columns: 'messages'); it looks like format = "),
    ],
)
def test_bad_rows(row: dict[str, Any], sentence: str) -> None:
    assert refusal(row).startswith(sentence)
