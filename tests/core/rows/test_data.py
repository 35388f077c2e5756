"""From datasets to token rows: what is set aside, what is dropped and why, and what the flat arrays give back."""

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.contracts.recipe import RowsTable
from fttool.contracts.rows import Encoded
from fttool.contracts.strategy import Track
from fttool.errors import DataError
from fttool.recipe.reading import load
from fttool.rows import encoding
from fttool.rows.data import IN_EVALUATION, prepare, untracked
from fttool.rows.datasets import MARKED
from fttool.rows.gone import EXCERPT
from fttool.rows.rows import Rows
from fttool.rows.tokens import JoinedRows, TokenRows
from fttool.testing import tiny_tokenizer


def conversation(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns})


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_of(tmp_path: Path, first: int | None = None, track: Track = untracked, **tables: Any) -> Rows:
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, **tables}
    write(tmp_path / "recipe.toml", [dumps(recipe)])
    return prepare(load(tmp_path / "recipe.toml"), tiny_tokenizer(), first=first, track=track)


def test_token_rows_give_back_what_they_were_given() -> None:
    rows = TokenRows()
    given = [Encoded([5, 6, 7], [-100, 6, 7]), Encoded([8], [-100]), Encoded([9, 1], [-100, -100])]
    for index, row in enumerate(given):
        rows.append(row, f"f:{index}")
    assert [rows[index] for index in range(3)] == given == list(rows[:3])
    assert list(rows.lengths) == [3, 1, 2] and rows.label_tokens == 2
    assert rows.as_dataset()["input_ids"][:] == [[5, 6, 7], [8], [9, 1]]
    assert not TokenRows().lengths


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
    assert rows.train_tokens == list(rows.train.lengths)
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
    assert list(rows.train.origins) == [f"hub:{folder}:train:{index}" for index in range(3)]
    (source,) = rows.sources
    assert source.pop("fingerprint")
    assert source == {
        "table": "data.train.0",
        "rows": 3,
        "source": f"hub:{folder}",
        "revision": None,
        "columns": {"messages": {"read": 3}},
        "turn_keys": {"role": {"read": 6}, "content": {"read": 6}},
    }


def test_a_first_look_encodes_no_more_rows_than_it_shows(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [conversation(f"Q{n}?", "A.") for n in range(9)])
    train = [{"path": "rows.jsonl", "limit": 2}, {"path": "rows.jsonl", "name": "more"}]
    data = {"train": train, "eval": [{"path": "none.jsonl"}]}
    write(tmp_path / "none.jsonl", [conversation("why " * 40, "because")])  # nothing to learn is left of it
    tables: dict[str, Any] = {"data": data, "batching": {"name": "padded", "max_length": 60}}
    rows = rows_of(tmp_path, first=3, **tables)
    assert [Path(origin).name for origin in rows.train.origins] == [f"rows.jsonl:{line}" for line in (1, 2, 1)]
    with pytest.raises(DataError, match="no evaluation row is left"):
        rows_of(tmp_path, **tables)


# -- rows that represent what the model knew ------------------------------------------------------------------------


def texts(rows: TokenRows) -> list[str]:
    return [tiny_tokenizer().decode(row.input_ids) for row in rows]


def known(tmp_path: Path) -> dict[str, Any]:
    """A training, an evaluation, a general and a retention dataset that share some rows."""
    write(tmp_path / "train.jsonl", [conversation(f"T{n}?", "A.") for n in range(6)])
    write(tmp_path / "eval.jsonl", [conversation("T0?", "A."), conversation("G0?", "A."), conversation("R0?", "A.")])
    write(tmp_path / "books.jsonl", [conversation(f"G{n}?", "A.") for n in range(4)])
    write(tmp_path / "kept.jsonl", [conversation(q, "A.") for q in ("R0?", "T1?", "T2?", "G1?")])
    write(tmp_path / "more.jsonl", [conversation("M?", "A.")])
    general = [{"path": "books.jsonl"}, {"path": "more.jsonl", "name": "second"}]
    return {
        "train": [{"path": "train.jsonl"}],
        "eval": [{"path": "eval.jsonl"}],
        "general": general,
        "retention": [{"path": "kept.jsonl", "name": "known"}, {"path": "more.jsonl", "limit": 1}],
    }


def test_what_is_measured_is_dropped_from_what_may_be_learned(tmp_path: Path) -> None:
    data = known(tmp_path)
    write(tmp_path / "more.jsonl", [conversation("M?", "A."), conversation("N?", "A.")])
    rows = rows_of(tmp_path, data=data)
    assert [len(rows.train), len(rows.eval)] == [3, 3] and rows.train_sizes == [3]
    assert {name: len(some) for name, some in rows.general.items()} == {"books": 2, "second": 1}
    assert {name: len(some) for name, some in rows.retention.items()} == {"known": 4, "more": 1}
    assert rows.dropped == {"also in the evaluation rows": 2, "also in the retention rows": 4}
    learnable = {text for some in (rows.train, *rows.general.values()) for text in texts(some)}
    measured = {text for some in (rows.eval, *rows.retention.values()) for text in texts(some)}
    assert len(learnable) == 6 and not learnable & measured
    assert list(rows.learned) == list(rows.train), "nothing of the general rows is learned unless it is replayed"


def test_a_retention_row_is_not_set_aside_for_evaluation_either(tmp_path: Path) -> None:
    lines = [conversation(f"T{n}?", "A.") for n in range(60)]
    write(tmp_path / "train.jsonl", lines)
    write(tmp_path / "kept.jsonl", lines[:30])
    data = {"train": [{"path": "train.jsonl"}], "eval_share": 0.5, "retention": [{"path": "kept.jsonl"}]}
    rows = rows_of(tmp_path, data=data)
    assert len(rows.train) + len(rows.eval) == 30 == rows.dropped["also in the retention rows"]
    assert not set(texts(rows.eval)) & set(texts(rows.retention["kept"]))


def test_a_dataset_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    data = known(tmp_path)
    with pytest.raises(DataError, match=r"no row of the general dataset 'second' is left.*retention rows"):
        rows_of(tmp_path, data=data)


def test_filters_leave_general_and_retention_rows_alone(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [conversation("T?", "one two three")])
    write(tmp_path / "books.jsonl", [conversation("G?", "one")] * 2)
    write(tmp_path / "kept.jsonl", [conversation("R?", "one")] * 3)
    data = {name: [{"path": f"{file}.jsonl"}] for name, file in (("train", "train"), ("general", "books"))}
    filters = [{"name": "words", "min": 2}, "exact-duplicates"]
    rows = rows_of(tmp_path, data={**data, "retention": [{"path": "kept.jsonl"}]}, filters=filters)
    assert (len(rows.train), len(rows.general["books"]), len(rows.retention["kept"])) == (1, 2, 3)
    assert not rows.dropped


def test_every_dataset_is_among_the_sources(tmp_path: Path) -> None:
    data = known(tmp_path)
    data["general"].pop()
    sources = rows_of(tmp_path, data=data).sources
    tables = ["data.train.0", "data.eval.0", "data.general.0", "data.retention.0", "data.retention.1"]
    assert [source["table"] for source in sources] == tables
    assert all(len(source["sha256"]) == 64 for source in sources)


def test_joined_rows_are_those_of_their_parts() -> None:
    parts = [TokenRows() for _ in range(4)]
    for part, count in zip(parts, (2, 0, 3, 1), strict=True):
        for row in range(count):
            part.append(Encoded([count, row, 5], [-100, row, 5]), f"{count}:{row}")
    joined = JoinedRows(parts)
    assert list(joined) == [row for part in parts for row in part] == joined[:]
    assert [joined.origin(index) for index in range(len(joined))] == [o for part in parts for o in part.origins]
    assert list(joined.lengths) == [3] * 6 and joined[2:4] == list(parts[2][:2])
    with pytest.raises(IndexError):
        joined[6]


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ({"path": "docs/rows.jsonl"}, "rows"),
        ({"path": "rows.jsonl.gz"}, "rows"),
        ({"path": "rows.2024.json"}, "rows.2024"),
        ({"hub": "owner/chats.v2"}, "chats.v2"),
        ({"path": "rows.jsonl", "name": "mine"}, "mine"),
    ],
)
def test_a_dataset_has_a_name(table: dict[str, Any], name: str) -> None:
    assert RowsTable.model_construct(**table).dataset == name


def test_token_rows_give_back_classes_and_token_types() -> None:
    rows = TokenRows()
    given = [
        Encoded([5, 6], [-100, -100], classes=("a",)),
        Encoded([7, 8, 9], [-100] * 3, classes=("b", "a"), token_types=[0, 1, 1]),
        Encoded([5], [-100], classes=()),
        Encoded([6, 6], [-100, -100], classes=("a",), token_types=[0, 1]),
    ]
    for index, row in enumerate(given):
        rows.append(row, f"f:{index}")
    assert list(rows) == given
    assert rows.class_counts == {"a": 3, "b": 1}


def labelled(**row: Any) -> str:
    return json.dumps(row)


def test_rows_with_classes(tmp_path: Path) -> None:
    lines = [labelled(text="a short one", label="x"), labelled(text="long " * 40, label="y")]
    write(tmp_path / "rows.jsonl", [*lines, labelled(text="neither", label=[])])
    rows = rows_of(
        tmp_path,
        task={"name": "classification", "multi_label": True},
        data={"train": [{"path": "rows.jsonl"}]},
        batching={"name": "padded", "max_length": 60},
    )
    assert list(rows.train.classes) == [("x",), ("y",), ()] and max(rows.train.lengths) == 60
    assert (rows.truncated, rows.train.label_tokens, rows.dropped) == (1, 0, {})


def test_a_text_stays_on_its_side_whatever_its_class(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [labelled(text=f"text {n}", label="x") for n in range(3)])
    write(tmp_path / "eval.jsonl", [labelled(text="text 1", label="y"), labelled(text="other", label="x")])
    data = {"train": [{"path": "train.jsonl"}], "eval": [{"path": "eval.jsonl"}]}
    rows = rows_of(tmp_path, task="classification", data=data)
    assert (len(rows.train), len(rows.eval)) == (2, 2)
    assert rows.dropped == {"also in the evaluation rows": 1}


def test_a_folder_of_texts_and_its_encodings(tmp_path: Path) -> None:
    for name, content in (("ham/1", b"one"), ("spam/1", b"caf\xe9"), ("ham/2", b"two")):
        (tmp_path / "mails" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mails" / name).write_bytes(content)
    table = {"path": "mails", "reader": {"name": "folder", "encodings": ["utf-8", "latin-1"]}}
    rows = rows_of(tmp_path, task="classification", data={"train": [table]})
    assert rows.train.class_counts == {"ham": 2, "spam": 1} and "mails: files read as latin-1: 1" in rows.notices
    (source,) = rows.sources
    assert source["noted"] == {"files read as latin-1": 1} and (source["files"], source["bytes"]) == (3, 10)
    assert [Path(origin).relative_to(tmp_path).as_posix() for origin in rows.train.origins] == [
        "mails/ham/1",
        "mails/spam/1",
        "mails/ham/2",
    ]


def test_classes_of_the_datasets_library_come_with_their_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, List, Value

    one, several = ClassLabel(names=["neg", "pos"]), List(ClassLabel(names=["x", "y"]))
    features = Features({"text": Value("string"), "label": one, "tags": several, "number": Value("int64")})
    columns = {"text": ["a", "b"], "label": [1, 0], "tags": [[0, 1], []], "number": [5, 6]}
    (tmp_path / "published").mkdir()
    Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "published" / "train.parquet")
    table = {"hub": str(tmp_path / "published"), "split": "train"}
    data = {"train": [table]}
    assert list(rows_of(tmp_path, task="classification", data=data).train.classes) == [("pos",), ("neg",)]
    task = {"name": "classification", "multi_label": True}
    table["ignore"] = ["label"]
    tags = {"train": [{**table, "format": {"name": "labelled", "label": "tags"}}]}
    assert list(rows_of(tmp_path, task=task, data=tags).train.classes) == [("x", "y"), ()]
    numbers = {"train": [{**table, "format": {"name": "labelled", "label": "number"}}]}
    assert list(rows_of(tmp_path, task="classification", data=numbers).train.classes) == [("5",), ("6",)]


L2, EWC = {"name": "l2-init", "strength": 0.1}, {"name": "ewc", "strength": 0.1}


@pytest.mark.parametrize(
    ("more", "reads"),
    [
        ({}, False),
        ({"mixing": "replay"}, True),
        ({"regularizers": [L2]}, False),
        ({"regularizers": [L2, EWC]}, True),
        ({"regularizers": [{**EWC, "file": "f.safetensors"}]}, False),
    ],
)
def test_general_rows_that_nothing_reads_are_said(tmp_path: Path, more: dict[str, Any], reads: bool) -> None:
    for name in ("rows", "wiki"):
        turns = [{"role": "user", "content": name}, {"role": "assistant", "content": "Hello"}]
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    data = {"train": [{"path": "rows.jsonl"}], "general": [{"path": "wiki.jsonl"}]}
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data, **more}
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    found = [one for one in prepare(load(tmp_path / "recipe.toml"), tiny_tokenizer()).notices if "general rows" in one]
    assert [one.partition(":")[0] for one in found] == ([] if reads else ["general rows (wiki)"])


def test_every_row_that_goes_is_listed_with_its_place_reason_and_beginning(tmp_path: Path) -> None:
    """Each row is learned, measured or listed, and the list says why just as the counts do."""
    marked = json.dumps({**json.loads(conversation("Marked?", "no")), "weight": 0})
    lines = [conversation("Q1?", "one two"), conversation("Q2?", "one"), conversation("Q1?", "one two"), "{}", marked]
    lines += [
        conversation("why " * 40, "because of it"),
        conversation("Held?", "out it is"),
        conversation("Q3?", "a b"),
    ]
    write(tmp_path / "rows.jsonl", lines)
    write(tmp_path / "eval.jsonl", [conversation("Held?", "out it is")])
    rows = rows_of(
        tmp_path,
        data={
            "train": [{"path": "rows.jsonl", "on_bad_row": "drop", "max_bad_rows": 1}],
            "eval": [{"path": "eval.jsonl"}],
        },
        filters=[{"name": "words", "min": 2}, "exact-duplicates"],
        batching={"name": "padded", "max_length": 60},
    )
    gone = {int(one.row.rpartition(":")[2]): one for one in rows.gone}
    kept = {int(origin.rpartition(":")[2]) for origin in rows.train.origins}
    assert kept == {1, 8} and sorted([*kept, *gone]) == list(range(1, 9))
    assert {one.dataset for one in rows.gone} == {"rows"}
    assert gone[3].reason == "same row as an earlier row" and gone[3].excerpt == "Q1? → one two"
    assert gone[4].reason.startswith("the row has no 'messages'") and gone[4].excerpt == "{}"
    assert gone[5].reason == MARKED and gone[7].reason == IN_EVALUATION
    assert gone[6].reason == "nothing to learn in the first 60 tokens" and gone[6].excerpt.startswith("why why")
    assert all(len(one.excerpt) <= EXCERPT and "\n" not in one.excerpt for one in rows.gone)
    assert sum(rows.dropped.values()) == len(rows.gone)


def test_rows_take_next_to_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows take a handful of bytes more for each, while they are prepared and afterwards."""
    monkeypatch.setattr("fttool.rows.spooled.IN_MEMORY", 4096)
    monkeypatch.setattr("fttool.rows.data.SAMPLED", 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said = "a row of some length, in plain words " * 4
    taken: list[tuple[int, int]] = []
    data = {"train": [{"path": "rows.jsonl", "format": "text"}], "eval_share": 0.05, "workers": 1, "cache": False}
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data, "masking": "all"}
    write(tmp_path / "recipe.toml", [dumps(recipe | {"filters": ["encoding"]})])
    loaded, tokenizer = load(tmp_path / "recipe.toml"), tiny_tokenizer()
    for count in (40, 150, 350):  # the first makes what is made once
        write(tmp_path / "rows.jsonl", [json.dumps({"text": f"{number} {said}"}) for number in range(count)])
        gc.collect()
        tracemalloc.start()
        rows = prepare(loaded, tokenizer)
        taken.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        assert len(rows.train) + len(rows.eval) == count and sum(rows.train.lengths) > 30 * len(rows.train)
    (_, (after, peak), (later, highest)) = taken
    assert later - after < 200 * 100, taken
    assert highest - peak < 200 * 250, taken


@pytest.mark.parametrize(("rows", "shown"), [(30, [("making tokens of rows", 30)]), (29, [])])
def test_it_is_shown_how_far_many_rows_are(
    rows: int, shown: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the last one, by the number of rows, and with as many processes as there may be."""
    monkeypatch.setattr(encoding, "SHOWN_FROM", 30)
    write(tmp_path / "rows.jsonl", [conversation(f"Question {number}?", "Yes.") for number in range(rows)])
    said: list[tuple[str, int]] = []

    def track(items: Any, what: str) -> Any:
        for number, item in enumerate(items, 1):
            said[:] = [(what, number)]
            yield item

    made = rows_of(tmp_path, track=track, data={"workers": 2, "train": [{"path": "rows.jsonl"}]})
    assert len(made.train) == rows
    assert said == shown
