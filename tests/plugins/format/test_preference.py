"""Of two answers the chosen one is learned, whatever shape both have."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial
from typing import Any

import pytest

from fttool.rows.checks.noted import noted_row
from fttool_plugins.format.preference import Preference, common_prefix

from .reading import read_as, refused_as

read = partial(read_as, Preference)
refusal = partial(refused_as, Preference)

USER, GOOD, BAD = {"role": "user", "content": "Q"}, *({"role": "assistant", "content": text} for text in "GB")
SYSTEM = {"role": "system", "content": "S"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "chosen": "G", "rejected": "B"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [USER], "chosen": GOOD, "rejected": BAD},
        {"prompt": [USER], "chosen": "G", "rejected": "B"},
        {"prompt": "Q", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Q", "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
)
def test_the_chosen_answer_is_learned_and_the_other_one_is_said(row: dict[str, Any]) -> None:
    notes = Counter[str]()
    noted, _, _ = noted_row(row)
    example = read(noted, notes, chat=True)
    assert (example.messages, example.completion_from) == ((USER, GOOD), 1)
    assert noted.noted >= row.keys()
    assert notes == {"the answer in 'rejected' is not learned": 1}


def test_the_completion_begins_where_the_answers_part() -> None:
    earlier = [USER, {"role": "assistant", "content": "A"}]
    row = {"chosen": [SYSTEM, *earlier, USER, GOOD], "rejected": [SYSTEM, *earlier, USER, BAD]}
    assert read(row).completion_from == 4
    assert read({**row, "rejected": [SYSTEM, USER, BAD]}).completion_from == 2
    assert read({**row, "rejected": row["chosen"]}).completion_from == 4, "a tie still has an answer"
    with_system = {"prompt": "Q", "chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}
    assert (read(with_system).messages, read(with_system).completion_from) == ((SYSTEM, USER, GOOD), 2)


def test_openai_files() -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    asked = {"messages": [USER], "tools": tools, "parallel_tool_calls": True}
    noted, _, _ = noted_row({"input": asked, "preferred_output": [GOOD], "non_preferred_output": [BAD]})
    example = read(noted, prompt="input.messages", chosen="preferred_output", rejected="non_preferred_output")
    assert (example.messages, dict(example.template)) == ((USER, GOOD), {"tools": tools})
    assert dict.__getitem__(noted, "input").noted == {"messages", "tools"}, "what is not read there can be said"


def test_plain_text_of_both_is_parted_at_their_common_beginning() -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    assert "name its column, or set plain = true" in refusal(row, chat=True)
    example = read(row, chat=True, plain=True)
    assert (example.prompt, example.completion) == ("The sky is", " blue.")
    assert read({"prompt": "Q ", "chosen": "G", "rejected": "B"}, chat=False).prompt == "Q "


def test_a_common_beginning_is_of_whole_words_and_leaves_both_something() -> None:
    words = ["a", "ab", "b c", "b", ""]
    for first, second in itertools.product(words, words):
        chosen, rejected = f"To {first}", f"To {second}"
        prefix = common_prefix(chosen, rejected)
        assert chosen.startswith(prefix) and rejected.startswith(prefix)
        assert len(prefix) < len(chosen)
        assert chosen[len(prefix)].isspace() or not prefix or prefix[-1].isspace()


def test_a_system_text_goes_in_front() -> None:
    row = {"prompt": "Q", "chosen": "G", "rejected": "B", "system": "S"}
    assert read(row, chat=True).messages == (SYSTEM, USER, GOOD)
    assert read({**row, "system": None}, chat=True, system="S").completion_from == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Q", "chosen": "G"}, "the row has no 'rejected'"),
        ({"prompt": "Q", "chosen": "", "rejected": "B"}, "'chosen' is empty"),
        ({"prompt": "Q", "chosen": [GOOD], "rejected": "B"}, "must both be text, or both be turns"),
        ({"prompt": "Q", "chosen": 5, "rejected": "B"}, "'chosen' must be text or a list of turns, this is int"),
        ({"prompt": 5, "chosen": "G", "rejected": "B"}, "'prompt' must be text or a list of turns, this is int"),
        ({"prompt": "Q", "chosen": [USER], "rejected": [BAD]}, "has no assistant turn"),
        ({"prompt": "other", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "turns 1 and 2 are both of the user"),
    ],
)
def test_bad_rows(row: dict[str, Any], said: str) -> None:
    assert said in refusal(row, chat=True)
