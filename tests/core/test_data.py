"""From datasets to token rows: what is set aside, what is dropped and why, and what the flat arrays give back."""

import json
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.data import Rows, TokenRows, prepare
from fttool.errors import DataError
from fttool.families import Encoded
from fttool.reading import load
from fttool.testing import tiny_tokenizer


def conversation(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns})


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_of(tmp_path: Path, first: int | None = None, **tables: Any) -> Rows:
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, **tables}
    write(tmp_path / "recipe.toml", [dumps(recipe)])
    return prepare(load(tmp_path / "recipe.toml"), tiny_tokenizer(), first=first)


def test_token_rows_give_back_what_they_were_given() -> None:
    rows = TokenRows()
    given = [Encoded([5, 6, 7], [-100, 6, 7]), Encoded([8], [-100]), Encoded([9, 1], [-100, -100])]
    for index, row in enumerate(given):
        rows.append(row, f"f:{index}")
    assert [rows[index] for index in range(3)] == given == list(rows[:3])
    assert rows.lengths == [3, 1, 2] and rows.label_tokens == 2
    assert rows.as_dataset()["input_ids"][:] == [[5, 6, 7], [8], [9, 1]]
    assert TokenRows().lengths == []


def test_the_evaluation_share_is_chosen_by_the_row_alone(tmp_path: Path) -> None:
    lines = [conversation(f"Question {number}?", f"Answer {number}.") for number in range(400)]
    write(tmp_path / "rows.jsonl", lines)
    data = {"train": [{"path": "rows.jsonl"}], "eval_share": 0.25}
    first = rows_of(tmp_path, data=data)
    assert 60 < len(first.eval) < 140 and len(first.train) + len(first.eval) == 400

    write(tmp_path / "rows.jsonl", [*reversed(lines), conversation("One more?", "Yes.")])
    again = rows_of(tmp_path, data=data, run={"seed": 99})
    assert {tuple(row.input_ids) for row in first.eval} <= {tuple(row.input_ids) for row in again.eval}
    trained = {tuple(row.input_ids) for row in again.train}
    assert not trained & {tuple(row.input_ids) for row in first.eval}


def test_rows_that_stand_in_the_evaluation_too_are_dropped_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [conversation(f"Q{n}?", "A.") for n in range(5)])
    write(tmp_path / "eval.jsonl", [conversation("Q3?", "A."), conversation("Other?", "B.")])
    rows = rows_of(tmp_path, data={"train": [{"path": "train.jsonl"}], "eval": [{"path": "eval.jsonl"}]})
    assert (len(rows.train), len(rows.eval)) == (4, 2)
    assert rows.dropped == {"also in the evaluation rows": 1}


def test_filters_apply_in_order_over_all_training_datasets(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [conversation("Q1?", "one two three"), conversation("Q2?", "one")])
    write(tmp_path / "b.jsonl", [conversation("Q1?", "one two three"), conversation("Q3?", "one two")])
    filters = [{"name": "words", "min": 2}, "exact-duplicates"]
    rows = rows_of(tmp_path, data={"train": [{"path": "a.jsonl"}, {"path": "b.jsonl"}]}, filters=filters)
    assert rows.train_sizes == [1, 1]
    assert sum(rows.dropped.values()) == 2 and len(rows.dropped) == 2
    assert rows.train_tokens == rows.train.lengths
    assert [Path(origin).name for origin in rows.train.origins] == ["a.jsonl:1", "b.jsonl:2"]


@pytest.mark.parametrize(("too_long", "kept"), [("truncate", 2), ("drop", 1)])
def test_long_rows_are_cut_or_dropped_and_counted(tmp_path: Path, too_long: str, kept: int) -> None:
    write(tmp_path / "rows.jsonl", [conversation("Q?", "short"), conversation("Q?", "long " * 40)])
    batching = {"name": "padded", "max_length": 60, "too_long": too_long}
    rows = rows_of(tmp_path, data={"train": [{"path": "rows.jsonl"}]}, batching=batching)
    assert len(rows.train) == kept and max(rows.train.lengths) <= 60
    assert rows.truncated == (1 if too_long == "truncate" else 0)
    assert rows.dropped == ({} if too_long == "truncate" else {"longer than 60 tokens": 1})


def test_a_row_whose_answer_is_cut_away_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [conversation("Q?", "short"), conversation("why " * 40, "because")])
    rows = rows_of(tmp_path, data={"train": [{"path": "rows.jsonl"}]}, batching={"name": "padded", "max_length": 60})
    assert len(rows.train) == 1 and rows.truncated == 0
    assert rows.dropped == {"nothing to learn in the first 60 tokens": 1}


def test_a_limit_reads_the_first_rows(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [conversation(f"Q{n}?", "A.") for n in range(5)])
    rows = rows_of(tmp_path, data={"train": [{"path": "rows.jsonl", "limit": 2}]})
    assert [Path(origin).name for origin in rows.train.origins] == ["rows.jsonl:1", "rows.jsonl:2"]


def test_a_dataset_of_the_datasets_library(tmp_path: Path) -> None:
    """`hub` goes through `datasets.load_dataset`, which takes a folder as well as a name on the hub."""
    folder = tmp_path / "published"
    folder.mkdir()
    write(folder / "train.jsonl", [conversation(f"Q{n}?", "A.") for n in range(3)])
    rows = rows_of(tmp_path, data={"train": [{"hub": str(folder), "split": "train"}]})
    assert rows.train.origins == [f"hub:{folder}:train:{index}" for index in range(3)]
    (source,) = rows.sources
    assert source.pop("fingerprint")
    assert source == {"table": "data.train.0", "rows": 3, "source": f"hub:{folder}", "revision": None}


def test_a_first_look_encodes_no_more_rows_than_it_shows(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [conversation(f"Q{n}?", "A.") for n in range(9)])
    data = {"train": [{"path": "rows.jsonl", "limit": 2}, {"path": "rows.jsonl"}], "eval": [{"path": "none.jsonl"}]}
    write(tmp_path / "none.jsonl", [conversation("why " * 40, "because")])  # nothing to learn is left of it
    tables: dict[str, Any] = {"data": data, "batching": {"name": "padded", "max_length": 60}}
    rows = rows_of(tmp_path, first=3, **tables)
    assert [Path(origin).name for origin in rows.train.origins] == [f"rows.jsonl:{line}" for line in (1, 2, 1)]
    with pytest.raises(DataError, match="no evaluation row is left"):
        rows_of(tmp_path, **tables)
