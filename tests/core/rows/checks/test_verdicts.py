"""A column that says of a row that it is bad is refused by name; ordinary columns, and good verdicts, are listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fttool.errors import DataError
from fttool.recipe.reading import load
from fttool.recipe.salvaging import Rest
from fttool.rows.checks.verdicts import says_bad, spelled
from fttool.rows.datasets import Reading
from fttool.rows.first_look import first_rows

from ....rows import write_rows

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]

BAD: list[dict[str, Any]] = [
    {"is_correct": False},
    {"isCorrect": False},
    {"Correct": "False"},
    {"correctness": 0},
    {"desirable": False},
    {"kto_tag": False},
    {"accepted": "no"},
    {"quality": "very poor"},
    {"response_quality": "Low"},
    {"quality_score": 0.1},
    {"score": -2},
    {"score": "0.25"},
    {"rating": "rejected"},
    {"feedback": "thumbs_down"},
    {"passed": 0.0},
    {"toxic": True},
    {"toxicity": 0.93},
    {"is_harmful": 1},
    {"thumbs_down": "yes"},
    {"exclude": True},
    {"deleted": 1},
    {"metadata": {"source": "x", "is_correct": False}},
    {"info": {"weight": 0}},
    {"meta": {"train": "false"}},
    {"annotations": {"masked": True}},
]
ORDINARY: list[dict[str, Any]] = [
    {"is_correct": True},
    {"desirable": 1},
    {"quality": "good"},
    {"quality": "excellent"},
    {"score": 12},
    {"score": 4.5},
    {"score": None},
    {"rating": "***"},
    {"rating": 5},
    {"toxicity": 0.01},
    {"flagged": False},
    {"deleted": "never"},
    {"id": 0},
    {"source": "wrong"},
    {"license": "bad"},
    {"difficulty": 0.1},
    {"length": 0},
    {"language": "no"},
    {"created": False},
    {"goodreads_id": 0},
    {"category": "poor"},
    {"score_date": "2020-01-01"},
    {"training_data": "v2"},
    {"token_count": 0},
    {"metadata": {"weight": 70, "score": 3, "lang": "no", "is_correct": True, "train": None}},
    {"meta": {"train": "2019"}},
]
OTHER_NAMES: list[dict[str, Any]] = [
    {"reward": 1.0},
    {"Rewards": [0.1]},
    {"Input": "what it is about"},
    {"systemPrompt": "Be a pirate."},
    {"System-Message": "Be a pirate."},
    {"isMasked": True},
    {"LossWeight": 0.5},
    {"do_not_train": True},
    {"trainOnRow": False},
    {"example_weight": 0},
    {"enable_thinking": False},
    {"rationale": "since"},
]


def loaded_rows(tmp_path: Path, rows: list[dict[str, Any]], ignore: list[str] | None = None, more: str = "") -> Reading:
    write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "recipe.toml").write_text(
        f'recipe = 1\n[model]\nsource = "builtin:tiny-chat"\n[[data.train]]\npath = "rows.jsonl"\n'
        f"ignore = {json.dumps(ignore or [])}\n{more}\n"
    )
    ((reading, outcome),) = first_rows(Rest(load(tmp_path / "recipe.toml")), 100)
    if isinstance(outcome, DataError):
        raise outcome
    return reading


def name_of(column: dict[str, Any]) -> str:
    return next(iter(column))


@pytest.mark.parametrize("column", [*BAD, *OTHER_NAMES], ids=json.dumps)
def test_it_is_refused_by_name_unless_it_may_be_left_out(tmp_path: Path, column: dict[str, Any]) -> None:
    name, rows = name_of(column), [{"messages": TALK}, {"messages": TALK, **column}]
    with pytest.raises(DataError) as caught:
        loaded_rows(tmp_path, rows)
    said = str(caught.value)
    assert "rows.jsonl:2: " in said and f"the column '{name}' (" in said and "is filled in 1 row and format" in said
    assert f'ignore = ["{name}"]' in said
    assert len(loaded_rows(tmp_path, rows, [name]).examples) == 2


@pytest.mark.parametrize("column", ORDINARY, ids=json.dumps)
def test_what_says_nothing_against_a_row_is_only_listed(tmp_path: Path, column: dict[str, Any]) -> None:
    rows = loaded_rows(tmp_path, [{"messages": TALK, **column}])
    listed = [] if column[name_of(column)] is None else [f"rows: columns that are not read: {name_of(column)} (1)"]
    assert len(rows.examples) == 1 and rows.notices() == listed


def test_the_rows_that_it_speaks_against_are_counted(tmp_path: Path) -> None:
    rows = [{"messages": TALK, "is_correct": n % 3 > 0} for n in range(9)]
    with pytest.raises(
        DataError, match=r"rows\.jsonl:1: the column 'is_correct' \(a verdict, .*\) is filled in 3 rows"
    ):
        loaded_rows(tmp_path, rows)


def test_rows_that_are_left_out_have_nothing_to_lose(tmp_path: Path) -> None:
    rows = [{"messages": TALK, "is_correct": n > 0, "weight": int(n > 0)} for n in range(3)]
    found = loaded_rows(tmp_path, rows)
    assert len(found.examples) == 2 and found.columns.columns["is_correct"].not_read == 3


def test_beside_classes_a_rating_is_one_column_of_many(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "rating": -1, "toxic": True} for n in range(4)]
    found = loaded_rows(tmp_path, rows, more='[task]\nname = "classification"')
    assert found.notices()[0] == "rows: columns that are not read: rating (4), toxic (4)"


@pytest.mark.parametrize("name", ["isCorrect", "is-correct", "Is Correct", " is_correct", "IsCorrect"])
def test_names_are_told_however_they_are_spelled(name: str) -> None:
    assert spelled(name) == "is_correct" and says_bad(name, False) and not says_bad(name, True)
