"""Files for Bedrock and Gemini: the conversation that `messages` would read, whatever the layout around it."""

from __future__ import annotations

from typing import Any

import pytest

from fttool.api import Format
from fttool.rows.checks.noted import noted_row
from fttool_plugins.format.bedrock import Bedrock
from fttool_plugins.format.gemini import Gemini

from .reading import read_as, refused_as

SPOKEN = [("user", ["Is it ", "far?"]), ("assistant", ["Two miles."]), ("user", ["Thanks"]), ("assistant", ["Welcome"])]
EXPECTED = [{"role": role, "content": "".join(parts)} for role, parts in SPOKEN]


def bedrock(**more: Any) -> dict[str, Any]:
    turns = [{"role": role, "content": [{"text": part} for part in parts]} for role, parts in SPOKEN]
    return {"schemaVersion": "bedrock-conversation-2024", "messages": turns, **more}


def gemini(**more: Any) -> dict[str, Any]:
    roles = {"user": "user", "assistant": "model"}
    turns = [{"role": roles[role], "parts": [{"text": part} for part in parts]} for role, parts in SPOKEN]
    return {"contents": turns, **more}


SYSTEMS = [
    (Bedrock, bedrock(system=[{"text": "Be "}, {"text": "kind."}])),
    (Gemini, gemini(systemInstruction={"role": "system", "parts": [{"text": "Be "}, {"text": "kind."}]})),
    (Gemini, gemini(system_instruction={"parts": [{"text": "Be kind."}]})),
]


@pytest.mark.parametrize(("kind", "row"), [(Bedrock, bedrock()), (Gemini, gemini())])
def test_parts_are_joined_and_roles_translated(kind: type[Format], row: dict[str, Any]) -> None:
    example = read_as(kind, row)
    assert (list(example.messages), example.completion_from) == (EXPECTED, 3)
    inside, _, _ = noted_row({"request": row})
    column = f"request.{'messages' if kind is Bedrock else 'contents'}"
    assert list(read_as(kind, inside, column=column).messages) == EXPECTED


@pytest.mark.parametrize(("kind", "row"), SYSTEMS)
def test_a_system_text_is_the_first_turn(kind: type[Format], row: dict[str, Any]) -> None:
    noted, _, _ = noted_row(row)
    example = read_as(kind, noted)
    assert list(example.messages) == [{"role": "system", "content": "Be kind."}, *EXPECTED]
    assert example.completion_from == 4 and noted.noted >= row.keys()


@pytest.mark.parametrize(("kind", "row", "column"), [(Bedrock, bedrock(), "messages"), (Gemini, gemini(), "contents")])
def test_a_mark_is_obeyed(kind: type[Format], row: dict[str, Any], column: str) -> None:
    row[column][1]["weight"] = 0
    assert read_as(kind, row).unlearned == {1}


@pytest.mark.parametrize(
    ("kind", "turn", "said"),
    [
        (Bedrock, {"role": "user", "content": [{"image": {}}]}, "part 1 of turn 1 of 'messages' is 'image'"),
        (Bedrock, {"role": "user", "content": [{"text": "a", "toolUse": {}}]}, "is 'toolUse'; only text"),
        (Bedrock, {"role": "user", "content": "a"}, 'it looks like format = "messages"'),
        (Bedrock, {"role": "model", "content": [{"text": "a"}]}, 'must be {"role": "user" or "assistant"'),
        (Gemini, {"role": "user", "parts": [{"functionCall": {}}]}, "is 'functionCall'; only text"),
        (Gemini, {"role": "user", "parts": [{"text": "a", "thought": True}]}, "is 'thought'; only text"),
        (Gemini, {"role": "assistant", "parts": [{"text": "a"}]}, 'must be {"role": "user" or "model"'),
        (Gemini, {"role": "user"}, "must be a list of parts"),
        (Gemini, {"role": "user", "parts": []}, "is empty"),
    ],
)
def test_what_is_not_text_is_named(kind: type[Format], turn: dict[str, Any], said: str) -> None:
    row = bedrock() if kind is Bedrock else gemini()
    column = "messages" if kind is Bedrock else "contents"
    assert said in refused_as(kind, {**row, column: [turn, *row[column][1:]]})


def test_another_schema_is_refused() -> None:
    assert "'bedrock-conversation-2024' and its kin" in refused_as(Bedrock, bedrock(schemaVersion="2"))
    assert 'must be {"parts"' in refused_as(Gemini, gemini(systemInstruction="Be kind."))
