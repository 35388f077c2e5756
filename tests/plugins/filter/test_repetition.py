"""Answers that say one thing over and over are dropped."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from fttool.api import Example
from fttool.testing import filter_context
from fttool_plugins.filter.loops import longest_loop
from fttool_plugins.filter.repetition import Repetition

QUESTIONS = Path(__file__).parents[3] / "recipes" / "data" / "stdlib-qa.jsonl"


def row(answer: str) -> Example:
    turns = ({"role": "user", "content": "?"}, {"role": "assistant", "content": answer})
    return Example(origin="rows.jsonl:1", messages=turns, completion_from=1)


def naive(text: str, times: int, period: int) -> int:
    """The longest loop, by trying every piece from every place."""
    longest = 0
    for start in range(len(text)):
        for length in range(1, period + 1):
            end = start + length
            while end < len(text) and text[end] == text[end - length]:
                end += 1
            if end - start >= times * length and any(map(str.isalpha, text[start : start + length])):
                longest = max(longest, end - start)
    return longest


def test_loops_are_those_that_trying_everything_finds() -> None:
    draw = random.Random(0)
    seen = set[bool]()
    for _ in range(300):
        piece = "".join(draw.choices("ab ", k=draw.randint(1, 6)))
        text = (
            "".join(draw.choices("abc", k=draw.randint(0, 12)))
            + piece * draw.randint(1, 6)
            + "".join(draw.choices("ab", k=4))
        )
        expected = naive(text, times=3, period=8)
        found = longest_loop(text, times=3, period=8)
        assert found == expected, text
        for least in (1, 2, 5, 9, 14):
            assert longest_loop(text, times=3, period=8, at_least=least) == (expected if expected >= least else 0)
        seen.add(expected > 0)
    assert seen == {True, False}


@pytest.mark.parametrize("times", [2, 3, 4, 7])
def test_a_planted_loop_is_found_wherever_it_begins(times: int) -> None:
    """Of the least length that counts, in text without any: the quick look before the search overlooks none."""
    draw = random.Random(times)
    for _ in range(200):
        length = draw.randint(1, 60)
        piece = "".join(draw.choices("abcdefghijklmnop ", k=length - 1)) + "z"
        count = max(times, -(-60 // length))
        around = ["".join(draw.choices("qrstuvwxy", k=draw.randint(0, 90))) for _ in range(2)]
        text = around[0] + piece * count + around[1]
        assert longest_loop(text, times=times, period=60, at_least=60) >= length * count
        assert not longest_loop(around[0] + piece * (times - 1) + around[1], times=times, period=60, at_least=60)


@pytest.mark.parametrize(
    "answer",
    [
        "The answer is " + "the same thing and " * 12,
        "I think so. " * 8,
        "好的，我明白了。" * 10,
        "Yes!\nYes!\n\n" * 12,
        "First it goes well. " + "And THEN it\tdoes. and then it does. " * 4 + "The end.",
        "ha" * 40,
        "-" * 400 + "\n" + "the same thing again, " * 5,
    ],
)
def test_what_is_said_over_and_over_is_found(answer: str) -> None:
    assert Repetition().build(filter_context())([row(answer)]) == ["says one thing over and over"]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "No.",
        "no, no, no!",
        "-" * 200,
        "| --- " * 40,
        "0, " * 100,
        "a = 1\nb = 2\nc = 3\nd = 4\ne = 5\nf = 6\n" * 1,
        "The cat sat on the mat, the dog sat on the rug, and the bird sat on the roof of the old house over there.",
        "Same sentence here. Same sentence here. Same sentence here.",
    ],
)
def test_tables_rulers_and_short_emphasis_are_kept(answer: str) -> None:
    assert Repetition().build(filter_context())([row(answer)]) == [None]


def test_bounds_can_be_chosen() -> None:
    answer = row("yes " * 5)
    assert Repetition().build(filter_context())([answer]) == [None]
    assert Repetition(characters=10).build(filter_context())([answer]) != [None]
    assert Repetition(characters=10, times=6).build(filter_context())([answer]) == [None]
    assert Repetition(characters=10, period=3).build(filter_context())([answer]) == [None]


def test_answers_about_python_are_kept() -> None:
    answers = [row(json.loads(line)["messages"][-1]["content"]) for line in QUESTIONS.read_text().splitlines()]
    assert sum(reason is not None for reason in Repetition().build(filter_context())(answers)) <= len(answers) / 100
