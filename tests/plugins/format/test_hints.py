"""A recipe that is proposed for a row: followed, it reads every column but those that it names as unread."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
import tomli

from fttool.api import FormatContext
from fttool.plugins import Plugins
from fttool.rows.checks.noted import noted_row

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SAID = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
COLUMNS: dict[str, Any] = {
    **{name: f"the {name}" for name in ("instruction", "input", "output", "system", "context", "question", "answer")},
    **{name: f"the {name}" for name in ("prompt", "completion", "response", "query", "text", "label", "system_prompt")},
    **{name: f"the {name}" for name in ("Instruction", "Input", "Output", "Question", "Answer", "notes", "id")},
    "messages": TURNS,
    "conversations": SAID,
    "conversation": TURNS,
    "dialog": SAID,
    "history": [["earlier", "said"]],
    "tools": [{"name": "f"}],
    "pairs": [["a", "b"]],
}
FORMATS: dict[str, Any] = {one.id(): one for one in Plugins.of().family("format")}


def advice(format_id: str, row: dict[str, Any]) -> str:
    """What a format says of a row that is not its own; empty where it reads the row."""
    try:
        FORMATS[format_id]().build(FormatContext(origin=""))(row, "r:1")
    except ValueError as wrong:
        return str(wrong)
    return ""


@pytest.mark.parametrize("format_id", ["messages", "sharegpt", "alpaca", "prompt-completion", "text"])
@pytest.mark.parametrize("seed", range(60))
def test_what_is_proposed_reads_the_row(format_id: str, seed: int) -> None:
    draw = random.Random(f"{format_id} {seed}")
    row = {name: COLUMNS[name] for name in draw.sample(sorted(COLUMNS), draw.randint(1, 6))}
    said = advice(format_id, row)
    proposed = re.search(r"format = (\{.*?\}|\"[a-z-]+\")", said)
    if proposed is None or "did you mean" in said:
        return
    table = tomli.loads(f"format = {proposed[1]}")["format"]
    table = {"name": table} if isinstance(table, str) else table
    noted, _, _ = noted_row(row)
    FORMATS[table.pop("name")](**table).build(FormatContext(origin=""))(noted, "r:1")
    named = re.search(r"which leaves (.*?) unread", said)
    unread = set(re.findall(r"'(.*?)'", named[1])) if named else set[str]()
    assert set(row) - noted.noted == unread, said


@pytest.mark.parametrize(
    ("row", "proposed"),
    [
        (
            ("question", "context", "answer"),
            '{name = "alpaca", instruction = "question", output = "answer", input = "context"}',
        ),
        (("Instruction", "Input", "Output"), 'instruction = "Instruction", output = "Output", input = "Input"}'),
        (("dialog",), '{name = "sharegpt", column = "dialog"}'),
        (("conversation",), '{name = "messages", column = "conversation"}'),
    ],
)
def test_what_is_proposed(row: tuple[str, ...], proposed: str) -> None:
    assert proposed in advice("messages", {name: COLUMNS[name] for name in row})


def test_pairs_are_no_turns() -> None:
    assert "format = " not in advice("messages", {"conversations": COLUMNS["pairs"]})


@pytest.mark.parametrize(
    ("row", "proposed"),
    [
        ({"prompt": "q", "chosen": "g", "rejected": "b"}, 'format = "preference"'),
        (
            {"question": "q", "chosen_response": "g", "rejected_response": "b"},
            '{name = "preference", prompt = "question", chosen = "chosen_response", rejected = "rejected_response"}',
        ),
        (
            {"input": {"messages": TURNS[:1]}, "preferred_output": TURNS[1:], "non_preferred_output": TURNS[1:]},
            'prompt = "input.messages", chosen = "preferred_output", rejected = "non_preferred_output"}',
        ),
        ({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}, 'format = "gemini"'),
        ({"data": {"messages": TURNS}}, '{name = "messages", column = "data.messages"}'),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, 'format = "bedrock"'),
    ],
)
def test_what_is_proposed_for_files_of_others(row: dict[str, Any], proposed: str) -> None:
    assert proposed in advice("messages", row)
