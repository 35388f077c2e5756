"""Classes that may be one are said, however they come to be two; those that are two are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.recipe.reading import load
from fttool.rows.checks.classes import alike
from fttool.rows.data import prepare
from fttool.rows.rows import Rows
from fttool.testing import tiny_tokenizer

from ....rows import write_rows


def read(tmp_path: Path, rows: list[dict[str, Any]], task: str = "classification", **table: Any) -> Rows:
    write_rows(tmp_path / "rows.jsonl", rows)
    data = {"train": [{"path": "rows.jsonl", **table}]}
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "task": {"name": task}, "data": data}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    return prepare(load(tmp_path / "recipe.toml"), tiny_tokenizer())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ham", "ham"),
        ("not spam", "not_spam"),
        ("not-spam", "notspam"),
        ("spma", "spam"),
        ("spamm", "spam"),
        ("spem", "spam"),
        ("negative", "negativ"),
        ("Straße", "STRASSE"),
        ("a.b", "ab"),
        ("caf\u00e9", "cafe\u0301"),
        ("\uff53\uff50\uff41\uff4d", "spam"),
        ("sp\u200bam", "spam"),
        ("1", "01"),
        ("1.0", "1"),
        ("NaN", "nan"),
    ],
)
def test_two_names_that_look_like_one_are_said(one: str, other: str) -> None:
    (said,) = alike({one: 3, other: 40, "quite another": 9})
    assert said.startswith("classes that look like one: ")
    assert f"'{one}' (3)" in said and f"'{other}' (40)" in said and "quite another" not in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ham", "jam"),
        ("class1", "class2"),
        ("2019", "2020"),
        ("yes", "no"),
        ("male", "female"),
        ("positive", "negative"),
        ("+", "-"),
        ("1", "11"),
        ("-1", "1"),
        ("1.0", "10"),
        ("c", "c++"),
        ("c++", "c#"),
    ],
)
def test_two_names_are_two(one: str, other: str) -> None:
    assert alike({one: 3, other: 40}) == []


def test_many_classes_are_held_against_each_other_quickly_and_few_are_named() -> None:
    names = {f"{chr(97 + n // 676)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}-word": 2 for n in range(3000)}
    (said,) = alike(names)
    assert "more" in said and said.count(";") <= 6


def test_one_class_by_number_and_by_text_is_said(tmp_path: Path) -> None:
    labels: list[Any] = [1, 1, "1", "two", True, "Nan"]
    rows = read(tmp_path, [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)])
    assert rows.notices == [
        "classes are written as text (3), a number (2), true or false (1); of '1' both are one class",
        "classes that look like a missing value: 'Nan' (1)",
        "classes with one row: 'two', 'true', 'Nan'",
    ]


def test_classes_that_are_well_written_bring_no_word(tmp_path: Path) -> None:
    numbers = [{"text": f"text {n}", "label": n % 2} for n in range(6)]
    assert read(tmp_path, numbers).notices == []
    words = [{"text": f"text {n}", "label": ["ham", "spam"][n % 2]} for n in range(6)]
    assert read(tmp_path, words).notices == []
