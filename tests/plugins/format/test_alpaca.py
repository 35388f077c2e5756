"""Instructions, what they are about, and answers become conversations; nothing that stands in a row is lost."""

import random
from functools import partial
from typing import Any

import pytest

from fttool.api import Example, FormatContext
from fttool_plugins.format.alpaca import Alpaca

from .reading import read_as, refused_as

read = partial(read_as, Alpaca)
refusal = partial(refused_as, Alpaca)


def turns(*contents: str) -> tuple[dict[str, str], ...]:
    return tuple({"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(contents))


def test_an_instruction_with_and_without_an_input() -> None:
    row = {"instruction": "Sum it up.", "input": "A long text.", "output": "Short."}
    assert read(row) == Example(
        origin="rows.jsonl:7", messages=turns("Sum it up.\n\nA long text.", "Short."), completion_from=1
    )
    for empty in ({"input": ""}, {"input": None}, {"input": " \n"}, {}):
        given = {"instruction": "Say hi.", "output": "Hi.", **empty}
        assert read(given).messages == turns("Say hi.", "Hi.")


def test_system_and_history_stand_in_front() -> None:
    row = {"system": "Be a pirate.", "instruction": "q3", "output": "a3", "history": [["q1", "a1"], ("q2", "a2")]}
    system = {"role": "system", "content": "Be a pirate."}
    example = read(row)
    assert example.messages == (system, *turns("q1", "a1", "q2", "a2", "q3", "a3"))
    assert example.completion_from == 6
    for empty in (None, "", []):
        assert read({**row, "history": empty, "system": ""}).messages == turns("q3", "a3")


def test_other_columns() -> None:
    names = {"instruction": "task", "input": "on", "output": "done", "system": "as", "history": "before"}
    row = {"task": "t", "on": "o", "done": "d", "as": "s", "before": [["q", "a"]], "input": "other"}
    assert read(row, **names).messages == ({"role": "system", "content": "s"}, *turns("q", "a", "t\n\no", "d"))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_filled_stands_in_the_conversation(seed: int) -> None:
    """Each column has a word of its own; the words of a random choice of columns are all found again, in order."""
    draw = random.Random(seed)
    row: dict[str, Any] = {"instruction": "INSTRUCTION", "output": "OUTPUT"}
    expected = ["INSTRUCTION", "OUTPUT"]
    if draw.random() < 0.5:
        row["input"] = "INPUT"
        expected.insert(1, "INPUT")
    rounds = draw.randrange(3)
    row["history"] = [[f"ASKED{n}", f"ANSWERED{n}"] for n in range(rounds)]
    expected = [word for pair in row["history"] for word in pair] + expected
    if draw.random() < 0.5:
        row["system"] = "SYSTEM"
        expected.insert(0, "SYSTEM")
    assert " ".join(message["content"] for message in read(row).messages).split() == expected


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"instruction": "a", "output": ""}, "'output' is empty, so there is nothing to learn"),
        ({"instruction": "a", "output": None}, "'output' is null"),
        ({"instruction": " ", "output": "b"}, "'instruction' is empty, so there is nothing to learn"),
        ({"instruction": "a", "output": 3}, "'output' must be text, this is int"),
        ({"instruction": "a", "output": "b", "input": ["c"]}, "'input' must be text, this is list"),
        ({"instruction": "a", "output": "b", "system": 1}, "'system' must be text, this is int"),
        (
            {"instruction": "a", "output": "b", "history": ["q", "a"]},
            "'history' must be a list of pairs of texts, [question, answer] each",
        ),
        (
            {"instruction": "a", "output": "b", "history": [["q", None]]},
            "'history[0][1]' must be text, this is NoneType",
        ),
        (
            {"instruction": "a", "response": "b"},
            "the row has no 'output' (its columns: 'instruction', 'response'); "
            'try format = {name = "alpaca", instruction = "instruction", output = "response"}',
        ),
        (
            {"messages": []},
            "the row has no 'instruction' (its columns: 'messages'); it looks like format = \"messages\"",
        ),
    ],
)
def test_bad_rows(row: dict[str, Any], sentence: str) -> None:
    assert refusal(row) == sentence


@pytest.mark.parametrize("column", ["input", "system", "history"])
def test_a_column_that_is_the_instruction_is_not_read_once_more(column: str) -> None:
    """Other datasets call the question `input`, and no other option needs to be told so."""
    row = {column: "What is it?", "output": "A cat."}
    example = Alpaca(instruction=column).build(FormatContext(origin="r"))(row, "r:1")
    assert [turn["content"] for turn in example.messages] == ["What is it?", "A cat."]
