"""What nobody reads is said; what means something elsewhere is refused, unless the recipe says to ignore it."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.errors import DataError, RecipeError
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.rows.checks.columns import MEANT
from fttool.rows.checks.noted import Noted, filled, noted_row
from fttool.rows.data import prepare
from fttool.rows.rows import Rows
from fttool.testing import tiny_tokenizer

from ....rows import write_rows

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]


def loaded(tmp_path: Path, rows: list[dict[str, Any]], **table: Any) -> Loaded:
    write_rows(tmp_path / "rows.jsonl", rows)
    task = table.pop("task", "sft")
    train = [{"path": "rows.jsonl", **table}]
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "task": {"name": task}, "data": {"train": train}}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    return load(tmp_path / "recipe.toml")


def read(tmp_path: Path, rows: list[dict[str, Any]], **table: Any) -> Rows:
    return prepare(loaded(tmp_path, rows, **table), tiny_tokenizer())


def refusal(tmp_path: Path, rows: list[dict[str, Any]], **table: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, rows, **table)
    return str(caught.value).replace(f"{tmp_path}/", "")


# -- rows that note what is read of them -----------------------------------------------------------------------------


def test_to_look_up_is_to_read_and_to_ask_what_is_there_is_not() -> None:
    row = Noted({"a": 1, "b": None, "c": 3})
    assert ("a" in row, list(row), len(row), row.keys() >= {"a"}, row == {"a": 1, "b": None, "c": 3}) == (
        True,
        ["a", "b", "c"],
        3,
        True,
        True,
    )
    assert not row.noted
    assert (row["a"], row.get("b"), row.get("x", 5)) == (1, None, 5)
    assert row.noted >= {"a", "b"} and "c" not in row.noted


@pytest.mark.parametrize(
    "take",
    [
        dict,
        lambda row: {**row},
        lambda row: dict(row.items()),
        lambda row: list(row.values()),
        copy.deepcopy,
        json.dumps,
        lambda row: {} | row,
        lambda row: [row[key] for key in row],
    ],
)
def test_to_take_all_is_to_read_all(take: Any) -> None:
    row = Noted({"a": 1, "b": [2]})
    assert take(row) == take({"a": 1, "b": [2]})
    assert take is json.dumps or row.noted == {"a", "b"}


def test_turns_note_what_is_read_of_them_too_and_lists_of_others_are_left_alone() -> None:
    raw = {"messages": copy.deepcopy(TALK), "tools": [{"name": "f"}], "weight": 1}
    row, turns, met = noted_row(raw, ("weight", "name"))
    assert row == {"messages": TALK, "tools": [{"name": "f"}]}
    assert (turns, met) == (TALK, {"weight"})
    assert row["messages"][1]["content"] == "Hello there"
    assert [turn.noted for turn in turns] == [set(), {"content"}]
    assert raw == {"messages": TALK, "tools": [{"name": "f"}], "weight": 1}, "the raw row was changed"


def test_a_path_is_what_a_column_holds_and_a_column_of_that_name_goes_first() -> None:
    raw = {"data": {"talk": {"turns": TALK}, "id": 7}, "data.id": "this one", "flat": {"a": 1}}
    row, turns, _ = noted_row(raw, ("flat.a",))
    assert row["data.talk.turns"] == TALK and turns == TALK and "data.talk.id" not in row
    assert (row["data.id"], row.get("data.none", 5), "data.talk" in row, "x.y" in row) == ("this one", 5, True, False)
    assert row.noted == {"data", "data.id"} and dict.__getitem__(row, "data").noted == {"talk", "none"}
    assert row == {**raw, "flat": {}} and row.get("flat.a") is None
    with pytest.raises(KeyError):
        row["data.talk.id"]


def test_keys_beside_a_path_that_is_read_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"data": {"messages": TALK, "id": n, "kept": None}, "meta": {"source": "x"}} for n in range(3)
    ]
    by_path = {"name": "messages", "column": "data.messages"}
    (source,) = read(tmp_path, rows, format=by_path).sources
    assert source["columns"] == {
        "data": {"read": 3},
        "data.messages": {"read": 3},
        "data.id": {"not_read": 3},
        "meta": {"not_read": 3},
    }
    rows[1]["data"]["rejected"] = "half of a preference"
    with pytest.raises(DataError, match=r"the column 'data\.rejected' .* is filled in 1 row"):
        read(tmp_path, rows, format=by_path)
    assert len(read(tmp_path, rows, format=by_path, ignore=["data.rejected"]).train) == 3


def test_objects_far_down_are_taken_as_they_are() -> None:
    raw: dict[str, Any] = {"end": 1}
    for _ in range(3_000):
        raw = {"a": raw}
    row, _, _ = noted_row(raw)
    assert "a.a.a" in row and ".".join("a" * 20) not in row


@pytest.mark.parametrize("value", [None, "", " \n", [], {}, ()])
def test_nothing_stands_in_what_is_empty(value: Any) -> None:
    assert not filled(value)


@pytest.mark.parametrize("value", [0, False, 0.0, "0", [None], {"a": None}])
def test_zero_and_false_stand_for_something(value: Any) -> None:
    assert filled(value)


# -- counted and refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_columns_that_are_not_read_are_counted(tmp_path: Path, seed: int) -> None:
    """Against a count by hand over random rows."""
    draw = random.Random(seed)
    values = [None, "", [], {}, 0, False, "text", [1], {"k": 1}]
    rows = [{"messages": TALK, **{f"c{n}": draw.choice(values) for n in range(3)}, "id": 7} for _ in range(20)]
    by_hand = Counter[str](
        key for row in rows for key, value in row.items() if key != "messages" and value not in (None, "", [], {})
    )
    (source,) = read(tmp_path, rows).sources
    unread = {key: use["not_read"] for key, use in source["columns"].items() if "not_read" in use}
    assert unread == by_hand and source["columns"]["messages"] == {"read": 20}


def test_what_goes_on_to_the_template_is_counted(tmp_path: Path) -> None:
    turns = [{**TALK[0], "name": "Ada", "weight": 0}, {**TALK[1], "name": None, "x": 1}]
    rows = read(tmp_path, [{"messages": turns}] * 3)
    assert rows.sources[0]["turn_keys"] == {
        "role": {"read": 6},
        "content": {"read": 6},
        "name": {"read": 3, "passed_on": 3},
        "weight": {"read": 3},
        "x": {"read": 3, "passed_on": 3},
    }


PAIR = {"prompt": "p", "completion": "cc"}
INSTRUCTIONS = {"name": "prompt-completion", "prompt": "instruction", "completion": "output"}
ELSEWHERE: dict[str, tuple[str, dict[str, Any], str]] = {
    "an input beside the instruction": (
        "instructions",
        {"instruction": "Translate", "input": "Bonjour", "output": "Good day"},
        "input",
    ),
    "an answer that is not wanted": (
        "prompt-completion",
        {"prompt": "p", "completion": "no no", "label": False},
        "label",
    ),
    "a preference": ("prompt-completion", {"prompt": "p", "completion": "yes yes", "rejected": "no"}, "rejected"),
    "a system turn": ("messages", {"messages": TALK, "system": "Be a pirate"}, "system"),
    "earlier turns": ("messages", {"messages": TALK, "history": [["q", "a"]]}, "history"),
    "pictures": ("messages", {"messages": TALK, "images": ["a.png"]}, "images"),
    "a third text": ("prompt-completion", {**PAIR, "text": "whole"}, "text"),
    "tools of plain text": (
        "prompt-completion",
        {"prompt": "p", "completion": "cc", "tools": [{"name": "f"}]},
        "tools",
    ),
    "a class": ("text", {"text": "a text", "label": 1}, "label"),
    "how much it counts": ("messages", {"messages": TALK, "sample_weight": 0.5}, "sample_weight"),
    "a thought": ("prompt-completion", {**PAIR, "reasoning": "hm"}, "reasoning"),
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_means_something_elsewhere_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    name, row, column = ELSEWHERE[kind]
    chosen: Any = INSTRUCTIONS if name == "instructions" else name
    rows = [{**row, column: None}, {**row, column: []}, row, row]
    said = refusal(tmp_path, rows, format=chosen)
    assert said.startswith(f"rows.jsonl:3: the column '{column}' ({MEANT[column]}) is filled in 2 rows and format ")
    assert f'ignore = ["{column}"]' in said
    left_out = read(tmp_path, rows, format=chosen, ignore=[column])
    assert len(left_out.train) == 4 and not [said for said in left_out.notices if "not read" in said]
    assert left_out.sources[0]["ignored"] == {column: 4}
    assert len(read(tmp_path, rows[:2], format=chosen).train) == 2, "where it is empty nothing is lost"


def test_the_format_that_reads_it_is_named_after_it_was_tried(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "input": "", "output": "bb"}, {"instruction": "a", "input": "c", "output": "bb"}]
    assert 'format = "alpaca" reads it; ' in refusal(tmp_path, rows, format=INSTRUCTIONS)
    kto = [{"prompt": "p", "completion": "cc", "label": False}]
    assert "no installed format reads it; " in refusal(tmp_path, kto, format="prompt-completion")


def test_several_columns_are_refused_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, [{"messages": TALK, "system": "s", "images": ["a"], "id": 3}])
    assert said.count("rows.jsonl:1: the column") == 2 and 'ignore = ["system", "images"]' in said


def test_a_text_that_stands_in_what_is_read_is_not_lost(tmp_path: Path) -> None:
    """A `prompt` beside the turns that begin with it, as published datasets have it."""
    rows = read(tmp_path, [{"messages": TALK, "prompt": "Hi", "prompt_id": "3f"}])
    assert rows.sources[0]["columns"]["prompt"] == {"not_read": 1}
    assert rows.notices == ["rows: columns that are not read: prompt (1), prompt_id (1)"]
    assert "'prompt'" in refusal(tmp_path, [{"messages": TALK, "prompt": "Other"}])


def test_to_ignore_what_is_not_there_is_said(tmp_path: Path) -> None:
    rows = read(tmp_path, [{"messages": TALK, "id": 1}], ignore=["id", "weigth"])
    assert rows.notices == ["rows: ignore names 'weigth', which no row has"]


def test_a_key_of_turns_can_be_ignored(tmp_path: Path) -> None:
    turns = [TALK[0], {**TALK[1], "weight": 0.5}]
    assert "weight 0.5" in refusal(tmp_path, [{"messages": turns}])
    rows = read(tmp_path, [{"messages": turns}], ignore=["weight"])
    assert rows.train.label_tokens and rows.sources[0]["ignored"] == {"weight": 1}
    assert "weight" not in rows.sources[0]["turn_keys"]


# -- marks on a row --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"train": False}, {"masked": True}, {"weight": "0"}, {"loss": "False"}]
)
def test_a_row_that_is_marked_is_left_out_and_counted(tmp_path: Path, mark: dict[str, Any]) -> None:
    rows = read(tmp_path, [{"messages": TALK, **mark}, {"messages": TALK, "weight": 1, "train": None}])
    assert len(rows.train) == 1 and rows.train.origins[0].endswith(":2")
    assert rows.dropped == {"marked as not learned": 1}


def test_a_weight_of_a_row_that_nothing_can_obey_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, [{"messages": TALK}, {"messages": TALK, "weight": 0.3}])
    assert said.startswith("rows.jsonl:2: the row has weight 0.3") and 'ignore = ["weight"]' in said
    assert len(read(tmp_path, [{"messages": TALK, "weight": 0.3}], ignore=["weight"]).train) == 1


def test_a_column_that_the_format_reads_is_no_mark(tmp_path: Path) -> None:
    rows = [{"text": "heavy", "weight": "5 kg"}, {"text": "light", "weight": "0"}]
    found = read(tmp_path, rows, task="classification", format={"name": "labelled", "label": "weight"})
    assert found.train.class_counts == {"5 kg": 1, "0": 1}


def test_a_conversation_of_which_all_is_marked_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = read(tmp_path, [{"messages": [TALK[0], {**TALK[1], "weight": 0}]}, {"messages": TALK}])
    assert len(rows.train) == 1
    assert rows.dropped == {"nothing to learn beside turns marked as not learned": 1}


# -- keys of the recipe that act on nothing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"split": "test"}, "split"),
        ({"split": "train"}, "split"),
        ({"split": "[-5:]"}, "split"),
        ({"revision": "v1"}, "revision"),
        ({"max_bad_rows": 0.1}, "max_bad_rows"),
        ({"path": None, "hub": "a/b", "reader": "json"}, "reader"),
    ],
)
def test_a_key_that_does_nothing_is_refused(tmp_path: Path, table: dict[str, Any], key: str) -> None:
    train = {key: value for key, value in {"path": "rows.jsonl", **table}.items() if value is not None}
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": {"train": [train]}}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    with pytest.raises(RecipeError, match=rf"recipe\.toml:\d+:\d+: {key} does nothing here: "):
        load(tmp_path / "recipe.toml")
