"""`auto` takes the format that reads the rows, says why, and takes none where they are of several shapes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import tomli
from tomli_w import dumps
from typing_extensions import override

from fttool.api import Example, Format, FormatContext, RowReader, Strategy, hookimpl
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


def loaded(
    folder: Path, rows: list[dict[str, Any]], task: str = "sft", plugins: Plugins | None = None, **table: Any
) -> Loaded:
    write_rows(folder / "rows.jsonl", rows)
    train = [{"path": "rows.jsonl", "format": "auto", **table}]
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "task": task, "data": {"train": train}}
    (folder / "recipe.toml").write_text(dumps(recipe))
    return load(folder / "recipe.toml", plugins=plugins)


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
        f'rows: format "auto" is "{name}": it reads all of the first 3 rows (columns: {", ".join(kind.example)}), '
        "and no other format does",
    )


def test_the_choice_stands_in_the_recipe_and_among_the_notices(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, [{"prompt": "a", "completion": "b", "id": 3}])
    chosen = settled(recipe)
    assert tomli.loads(resolved(chosen))["data"]["train"][0]["format"]["name"] == "prompt-completion"
    assert settled(chosen) is chosen
    rows = prepare(chosen, tiny_tokenizer())
    assert rows.notices[0].endswith(
        'is "prompt-completion": it reads the only row (columns: prompt, completion, id), and no other format does'
    )
    assert "Hello" not in tiny_tokenizer().decode(rows.train[0].input_ids) and len(rows.train) == 1


def test_other_formats_that_read_the_rows_are_named(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b", "prompt": "a", "completion": "b"}]
    name, why = said(tmp_path, rows)
    assert name == "alpaca" and why.endswith('prompt, completion), as "prompt-completion" would too')
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
    assert "it reads 9 of the first 10 rows (columns: messages), and no format reads the others" in why
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


def test_columns_are_named_with_the_rows_that_have_them(tmp_path: Path) -> None:
    rows = [{"messages": TURNS, **({"id": n} if n < 2 else {})} for n in range(5)]
    assert "it reads all of the first 5 rows (columns: messages, id in 2), and" in said(tmp_path, rows)[1]
    wide = [{"messages": TURNS, **{f"c{n}": n for n in range(30)}}]
    assert "c10, 19 more), and" in said(tmp_path, wide)[1]


# -- formats of others -----------------------------------------------------------------------------------------------


class Haiku(Format):
    """Three lines: `{"lines": ["…", "…", "…"]}`."""

    name: Literal["poems.haiku"] = "poems.haiku"
    example: ClassVar[dict[str, Any]] = {"lines": ["a", "b", "c"]}

    @override
    def recognises(self, row: Mapping[str, Any]) -> bool:
        return len(row["lines"]) == 3

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: Example(origin=origin, completion=" / ".join(row["lines"]))


class Anything(Format):
    """Reads what there is, but takes it for its own only where it says so."""

    name: Literal["poems.anything"] = "poems.anything"

    @override
    def recognises(self, row: Mapping[str, Any]) -> bool:
        return row.get("kind") == "poem"

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: Example(origin=origin, completion=str({key: row[key] for key in row}))


class Poems:
    @hookimpl
    def fttool_strategies(self) -> list[type[Strategy]]:
        return [Haiku, Anything]


def test_formats_of_others_take_part_where_they_recognise_the_rows(tmp_path: Path) -> None:
    """Though `Haiku` fails with a KeyError on all rows that are not its own."""
    poems = Plugins.of(poems=Poems())
    assert said(tmp_path, [{"lines": ["a", "b", "c"]}] * 2, plugins=poems)[0] == "poems.haiku"
    assert said(tmp_path, [{"kind": "poem", "id": 1}], plugins=poems)[0] == "poems.anything"
    name, why = said(tmp_path, [{"messages": TURNS}], plugins=poems)
    assert name == "messages" and why.endswith("no other format does")
    name, why = said(tmp_path, [{"text": "a", "kind": "poem"}], plugins=poems)
    assert name == "poems.anything", "it leaves no column unread"
    message = refusal(tmp_path, [{"lines": ["a"]}, {"lines": ["a", "b"]}], plugins=poems)
    assert "no format reads any of the first 2 rows" in message
    chosen = settled(loaded(tmp_path, [{"lines": ["a", "b", "c"]}], plugins=poems, on_bad_row="refuse"))
    assert tomli.loads(resolved(chosen))["data"]["train"][0]["format"] == {"name": "poems.haiku"}


def test_among_equals_a_built_in_format_is_taken(tmp_path: Path) -> None:
    """So that a package which is installed changes nothing where a built-in format reads the rows as well."""
    row = {"text": "a", "kind": "poem"}
    name, why = said(tmp_path, [row], plugins=Plugins.of(poems=Poems()), ignore=["kind"])
    assert name == "text" and 'as "poems.anything" would too' in why


def test_a_broken_plugin_is_said_and_stops_nothing(tmp_path: Path) -> None:
    broken = Plugins.of(odd=object(), poems=Poems())
    (entry,) = (entry for entry in broken.entries if entry.name == "odd")

    def fails() -> object:
        raise RuntimeError("no such library")

    broken = Plugins(tuple(replace(one, load=fails) if one is entry else one for one in broken.entries))
    name, why = said(tmp_path, [{"messages": TURNS}], plugins=broken)
    assert name == "messages" and "; plugin 'odd' is not asked: plugin 'odd' of" in why and "no such library" in why
    assert said(tmp_path, [{"messages": TURNS}], plugins=broken.without(["odd"]))[1].endswith("no other format does")
