"""Rows that were prepared before: the same rows, found again by all that they are made of, and by nothing else."""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.rows.rows import Rows
from fttool.runs import row_cache
from fttool.runs.row_cache import cached_rows, kept_rows, kept_rows_folder, remove_kept_rows
from fttool.testing import tiny_tokenizer
from fttool_plugins.filter.exact_duplicates import ExactDuplicates

DATA: dict[str, Any] = {"train": [{"path": "rows.jsonl"}], "eval_share": 0.1}
TABLES: dict[str, Any] = {
    "data": DATA,
    "batching": {"name": "bucketed", "max_length": 64},
    "filters": [{"name": "exact-duplicates"}],
}


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(row_cache, "FROM_BYTES", 1)
    lines = [
        {"messages": [{"role": "user", "content": f"Q{n % 50}?"}, {"role": "assistant", "content": f"It is {n % 50}."}]}
        for n in range(60)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def recipe(tmp_path: Path, **tables: Any) -> Loaded:
    content = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, **TABLES, **tables}
    (tmp_path / "recipe.toml").write_text(dumps(content))
    return load(tmp_path / "recipe.toml")


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each time that rows are prepared, and not found."""
    times: list[str] = []

    def counting(loaded: Loaded, *args: Any, **options: Any) -> Rows:
        times.append(loaded.name)
        return prepare(loaded, *args, **options)

    monkeypatch.setattr(row_cache, "prepare", counting)
    return times


def same(one: Rows, other: Rows) -> bool:
    many = ("train", "eval", "general", "retention", "learned", "eval_examples", "gone", "noticed")
    said = [field.name for field in fields(Rows) if field.name not in (*many, "notices")]
    rest = [
        [*map(list, (rows.train, rows.eval, rows.train.origins, rows.eval_examples, rows.gone, rows.noticed))]
        for rows in (one, other)
    ]
    return all(getattr(one, name) == getattr(other, name) for name in said) and rest[0] == rest[1]


def test_rows_are_prepared_once(tmp_path: Path, prepared: list[str]) -> None:
    fresh = prepare(recipe(tmp_path), tiny_tokenizer())
    first, again = (cached_rows(recipe(tmp_path), tiny_tokenizer()) for _ in range(2))
    assert prepared == ["recipe"]
    assert same(first, fresh) and same(again, fresh) and first.notices == fresh.notices
    assert any("prepared before" in notice for notice in again.notices)


def change_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(path.read_text().replace("It is 7", "It is 8", 1))


CHANGES: dict[str, dict[str, Any]] = {
    "a byte of the file": {},
    "a filter": {"filters": [{"name": "exact-duplicates"}, {"name": "repetition"}]},
    "the length": {"batching": {"name": "bucketed", "max_length": 24}},
    "the share": {"data": {**DATA, "eval_share": 0.2}},
    "the seed": {"run": {"seed": 3}},
    "the masking": {"masking": "all"},
    "the limit": {"data": {**DATA, "train": [{"path": "rows.jsonl", "limit": 40}]}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_rows_has_them_prepared_anew(tmp_path: Path, prepared: list[str], change: str) -> None:
    cached_rows(recipe(tmp_path), tiny_tokenizer())
    if not CHANGES[change]:
        change_a_byte(tmp_path)
    rows = cached_rows(recipe(tmp_path, **CHANGES[change]), tiny_tokenizer())
    assert len(prepared) == 2
    assert same(rows, prepare(recipe(tmp_path, **CHANGES[change]), tiny_tokenizer()))


def test_the_code_and_the_chat_template_count(
    tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_rows(recipe(tmp_path), tiny_tokenizer())
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template) + "{# #}"
    cached_rows(recipe(tmp_path), tokenizer)
    monkeypatch.setattr(row_cache, "code_of", lambda _: {"fttool": {"sha256": "another"}})
    cached_rows(recipe(tmp_path), tiny_tokenizer())
    assert len(prepared) == 3


def test_a_file_that_an_option_names_counts(tmp_path: Path, prepared: list[str]) -> None:
    (tmp_path / "words.txt").write_text("a")
    named = {"data": {**DATA, "train": [{"path": "rows.jsonl", "ignore": ["words.txt"]}]}}
    other = {"filters": [{"name": "refusals", "patterns": ["words.txt"]}]}
    for tables in (named, other):
        before = len(prepared)
        for text in ("a", "b"):
            (tmp_path / "words.txt").write_text(text)
            cached_rows(recipe(tmp_path, **tables), tiny_tokenizer())
        assert len(prepared) - before == (1 if tables is named else 2)


def test_a_models_folder_that_an_option_names_counts(tmp_path: Path, prepared: list[str]) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text("{}")
    named = {"filters": [{"name": "refusals", "patterns": ["encoder"]}]}
    for weights in ("a", "a", "b"):
        (encoder / "weights").write_text(weights)
        cached_rows(recipe(tmp_path, **named), tiny_tokenizer())
    assert len(prepared) == 2


def test_the_model_counts_where_a_filter_may_ask_it(
    tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"model": {"source": "config:config.json"}}
    (tmp_path / "config.json").write_text("{}")
    prepared_models(tmp_path, config)
    assert len(prepared) == 1
    monkeypatch.setattr(ExactDuplicates, "slow", True)
    prepared_models(tmp_path, config)
    assert len(prepared) == 3
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    cached_rows(recipe(tmp_path, **config), tiny_tokenizer())
    assert len(prepared) == 4


def prepared_models(tmp_path: Path, config: dict[str, Any]) -> None:
    """The same rows and tokenizer, for two models."""
    for tables in ({}, config):
        cached_rows(recipe(tmp_path, **tables), tiny_tokenizer())


def test_an_empty_option_does_not_name_the_recipes_folder(tmp_path: Path, prepared: list[str]) -> None:
    """Nor does one that happens to be called as a folder is: what lies there, runs among it, is not hashed."""
    (tmp_path / "text").mkdir()
    words = {"train": [{"path": "rows.jsonl", "format": {"name": "messages", "column": "messages"}}], "eval_share": 0.1}
    other = {
        "data": words,
        "filters": [{"name": "refusals", "patterns": ["text", " ", "~nobody-of-that-name", "x" * 5000]}],
    }
    for number in range(2):
        (tmp_path / "text" / "new").write_text(str(number))
        (tmp_path / "beside").write_text(str(number))
        cached_rows(recipe(tmp_path, **other), tiny_tokenizer())
    assert len(prepared) == 1


def test_what_does_not_change_the_rows_leaves_them(tmp_path: Path, prepared: list[str]) -> None:
    cached_rows(recipe(tmp_path), tiny_tokenizer())
    others: dict[str, Any] = {
        "optimizer": {"lr": 1e-3},
        "schedule": "wsd",
        "batching": {"name": "padded", "max_length": 64},
        "run": {"name": "other", "epochs": 3, "micro_batch": 4},
    }
    cached_rows(recipe(tmp_path, **others), tiny_tokenizer())
    assert len(prepared) == 1


def test_little_is_not_kept_and_false_keeps_nothing(
    tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_rows(recipe(tmp_path, data={**DATA, "cache": False}), tiny_tokenizer())
    monkeypatch.setattr(row_cache, "FROM_BYTES", 2**20)
    cached_rows(recipe(tmp_path), tiny_tokenizer())
    assert len(prepared) == 2 and not (tmp_path / "cache" / "fttool" / "rows").exists()


def test_what_is_torn_is_prepared_again(tmp_path: Path, prepared: list[str]) -> None:
    fresh = cached_rows(recipe(tmp_path), tiny_tokenizer())
    (entry,) = kept_rows(kept_rows_folder() or Path())
    (entry.path / "0" / "tokens.npy").write_bytes((entry.path / "0" / "tokens.npy").read_bytes()[:-100])
    assert same(cached_rows(recipe(tmp_path), tiny_tokenizer()), fresh)
    assert same(cached_rows(recipe(tmp_path), tiny_tokenizer()), fresh)
    assert len(prepared) == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, prepared: list[str]) -> None:
    (tmp_path / "taken").write_text("a file")
    rows = cached_rows(recipe(tmp_path, data={**DATA, "cache": "taken/rows"}), tiny_tokenizer())
    assert len(prepared) == 1 and len(rows.train)
    assert any("prepared rows are not kept in" in notice for notice in rows.notices)


def test_a_disk_that_is_full_is_told(tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(rows: Rows, folder: Path) -> None:
        (folder / "0.arrow").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_cache, "keep", full)
    rows = cached_rows(recipe(tmp_path), tiny_tokenizer())
    assert any("No space left" in notice for notice in rows.notices)
    assert not [path for path in (kept_rows_folder() or Path()).iterdir() if path.is_dir()]


def test_a_file_that_changes_meanwhile_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changing(loaded: Loaded, *args: Any, **options: Any) -> Rows:
        change_a_byte(tmp_path)
        return prepare(loaded, *args, **options)

    monkeypatch.setattr(row_cache, "prepare", changing)
    cached_rows(recipe(tmp_path), tiny_tokenizer())
    assert kept_rows(kept_rows_folder() or Path()) == []


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        cached_rows(recipe(tmp_path, run={"seed": seed}), tiny_tokenizer())
        time.sleep(0.02)
    above = kept_rows_folder() or Path()
    newest, middle, oldest = kept_rows(above)
    cached_rows(recipe(tmp_path, run={"seed": 0}), tiny_tokenizer())
    time.sleep(0.02)
    monkeypatch.setattr(row_cache, "AT_MOST", int(2.5 * newest.bytes))
    cached_rows(recipe(tmp_path, run={"seed": 5}), tiny_tokenizer())
    left = {entry.path for entry in kept_rows(above)}
    assert oldest.path in left and not {middle.path, newest.path} & left and len(left) == 2
    for entry in kept_rows(above):
        remove_kept_rows(entry)
    assert kept_rows(above) == []


def test_one_process_prepares_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, log = recipe(tmp_path), tmp_path / "log"

    def slow(loaded: Loaded, *args: Any, **options: Any) -> Rows:
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return prepare(loaded, *args, **options)

    monkeypatch.setattr(row_cache, "prepare", slow)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=cached_rows, args=(loaded, tiny_tokenizer())) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0] and log.read_text() == "x"


@pytest.mark.parametrize("workers", [2, 3])
def test_rows_are_the_same_for_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    made = [
        cached_rows(recipe(tmp_path, data={**DATA, "workers": count, "cache": False}), tiny_tokenizer())
        for count in (1, workers)
    ]
    assert same(*made) and made[0].notices == made[1].notices
