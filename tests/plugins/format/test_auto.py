"""`auto` takes the format that reads the rows, says why, and takes none where they are of several shapes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tomli
from tomli_w import dumps

from fttool.api import Format
from fttool.errors import DataError
from fttool.plugins import Plugins
from fttool.recipe.loaded import Loaded
from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.rows.format_detection import settled
from fttool.rundir.record import resolved
from fttool.testing import tiny_tokenizer

from ...rows import write_rows

KINDS: dict[str, Any] = {
    kind.id(): kind for kind in Plugins.of().family("format") if issubclass(kind, Format) and not kind.chooses
}
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def loaded(folder: Path, rows: list[dict[str, Any]], task: str = "sft", **table: Any) -> Loaded:
    write_rows(folder / "rows.jsonl", rows)
    train = [{"path": "rows.jsonl", "format": "auto", **table}]
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "task": task, "data": {"train": train}}
    (folder / "recipe.toml").write_text(dumps(recipe))
    return load(folder / "recipe.toml")


def said(folder: Path, rows: list[dict[str, Any]], **table: Any) -> tuple[str, str]:
    """The chosen format, and why."""
    recipe = settled(loaded(folder, rows, **table))
    return recipe.recipe.data.train[0].format.id(), recipe.said[0]


def refusal(folder: Path, rows: list[dict[str, Any]], **table: Any) -> str:
    with pytest.raises(DataError) as caught:
        settled(loaded(folder, rows, **table))
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", KINDS)
def test_each_formats_example_is_known_by_itself(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    task = {"labelled": "classification", "tagged": "token-classification"}.get(name, "sft")
    rows = [dict(kind.example) for _ in range(3)]
    assert said(tmp_path, rows, task=task) == (
        name,
        f'rows: format "auto" is "{name}": it reads all of the first 3 rows, and no other format does',
    )


def test_the_choice_stands_in_the_recipe_and_among_the_notices(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, [{"prompt": "a", "completion": "b", "id": 3}])
    chosen = settled(recipe)
    assert tomli.loads(resolved(chosen))["data"]["train"][0]["format"]["name"] == "prompt-completion"
    assert settled(chosen) is chosen
    rows = prepare(chosen, tiny_tokenizer())
    assert rows.notices[0].endswith('is "prompt-completion": it reads the only row, and no other format does')
    assert "Hello" not in tiny_tokenizer().decode(rows.train[0].input_ids) and len(rows.train) == 1


def test_other_formats_that_read_the_rows_are_named(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b", "prompt": "a", "completion": "b"}]
    name, why = said(tmp_path, rows)
    assert name == "alpaca" and why.endswith('it reads the only row, as "prompt-completion" would too')
    rows = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], **rows[0]}]
    name, why = said(tmp_path, rows, ignore=["conversations", "instruction", "output"])
    assert name == "prompt-completion" and "no other format does" in why


def test_of_several_the_one_that_leaves_fewest_columns_is_taken(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "instruction": "a", "output": "b", "input": "", "system": "s"}]
    assert said(tmp_path, rows)[0] == "alpaca"
    rows = [{"prompt": "Q", "completion": "a", "text": "a", "id": 1}, {"prompt": "Q", "completion": "b", "text": "b"}]
    assert said(tmp_path, rows)[0] == "prompt-completion", "`text` would leave the prompt"


def test_rows_of_several_shapes_are_refused_with_counts(tmp_path: Path) -> None:
    rows = [{"messages": TURNS}] * 5 + [{"text": "It rains."}] * 3 + [{"odd": 1}]
    random.Random(3).shuffle(rows)
    lines = {kind: 1 + next(n for n, row in enumerate(rows) if kind in row) for kind in ("messages", "text", "odd")}
    message = refusal(tmp_path, rows)
    assert (
        f'the rows are of several shapes: 5 for "messages" (first rows.jsonl:{lines["messages"]}), '
        f'3 for "text" (first rows.jsonl:{lines["text"]}), 1 for none (first rows.jsonl:{lines["odd"]})'
    ) in message
    assert refusal(tmp_path, rows) == message


def test_bad_rows_among_good_ones_are_left_to_the_rule_for_bad_rows(tmp_path: Path) -> None:
    rows = [{"messages": TURNS}] * 9 + [{"messages": []}]
    name, why = said(tmp_path, rows, on_bad_row="drop", max_bad_rows=1.0)
    assert name == "messages"
    assert "it reads 9 of the first 10 rows, and no format reads the others" in why
    assert "rows.jsonl:10: 'messages' has no turns" in why


def test_rows_that_no_format_reads_and_none_at_all_are_refused(tmp_path: Path) -> None:
    assert "no format reads any of the first 2 rows; 'messages' says: the row has no 'messages'" in refusal(
        tmp_path, [{"odd": 1}] * 2
    )
    assert "the file is empty" in refusal(tmp_path, [])


def test_what_means_something_must_be_read(tmp_path: Path) -> None:
    """An instruction with its input is `alpaca`, though `text` would read a part of it."""
    row = {"instruction": "Sum up", "input": "A tale", "output": "Short", "text": "Sum up: A tale. Short"}
    assert "no format reads the only row; 'alpaca' says: it would leave 'text' unread" in refusal(tmp_path, [row])
    assert said(tmp_path, [row], ignore=["text"])[0] == "alpaca"


def test_only_so_many_rows_are_looked_at_as_are_taken(tmp_path: Path) -> None:
    rows = [{"messages": TURNS}] * 2 + [{"text": "It rains."}]
    assert said(tmp_path, rows, limit=2)[0] == "messages"
