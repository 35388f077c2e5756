"""What cannot be learned as classes: rows without them, of one, of unknown ones; tables and folders that break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..rows import write_rows
from .conftest import Shell


@pytest.fixture
def labelled(recipe: dict[str, Any], rows: Path) -> dict[str, Any]:
    """Eight rows of two classes."""
    write_rows(
        rows, [{"text": f"{n} is {'odd' if n % 2 else 'even'}", "label": ["even", "odd"][n % 2]} for n in range(8)]
    )
    return {**recipe, "task": "classification", "data": {"train": [{"path": rows.name}]}}


GOOD = {"text": "2 is even", "label": "even"}
ROWS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "null label": ({"text": "a", "label": None}, ("'label' is null",)),
    "no label": ({"text": "a"}, ("the row has no 'label'",)),
    "empty label": ({"text": "a", "label": ""}, ("'label' is empty",)),
    "a fraction": ({"text": "a", "label": 0.5}, ("text or a whole number, this is float",)),
    "an object": ({"text": "a", "label": {"name": "x"}}, ("this is dict",)),
    "empty text": ({"text": "  ", "label": "odd"}, ("'text' is empty, so there is nothing to classify",)),
    "null text": ({"text": None, "label": "odd"}, ("'text' is null",)),
    "two labels": ({"text": "a", "label": ["even", "odd"]}, ("'even' and 'odd'", "task.multi_label = true")),
    "none of the labels": ({"text": "a", "label": []}, ("no class", "task.multi_label = true")),
    "a conversation": ({"messages": []}, ('it looks like format = "messages"',)),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_without_a_class_is_named(shell: Shell, labelled: dict[str, Any], rows: Path, kind: str) -> None:
    row, said = ROWS[kind]
    write_rows(rows, [GOOD, {"text": "3 is odd", "label": "odd"}, row])
    shell.run(labelled).refuses(4, *said, where=f"{rows}:3")


def test_one_class_alone(shell: Shell, labelled: dict[str, Any], rows: Path) -> None:
    write_rows(rows, [{**GOOD, "text": f"{n}"} for n in range(4)])
    shell.write(labelled)
    shell.call("run").refuses(4, "all training rows have the class 'even'", where=shell.place("train"))


def test_a_class_that_training_never_saw(shell: Shell, labelled: dict[str, Any], rows: Path) -> None:
    write_rows(rows.with_name("eval.jsonl"), [GOOD, {"text": "pi is neither", "label": "evn"}])
    labelled["data"]["eval"] = [{"path": "eval.jsonl"}]
    answer = shell.run(labelled)
    answer.refuses(
        4, "no training row has the class 'evn'", "did you mean 'even'?", where=f"{shell.folder}/eval.jsonl:2"
    )


def test_a_class_that_the_recipe_does_not_list(shell: Shell, labelled: dict[str, Any], rows: Path) -> None:
    labelled["task"] = {"name": "classification", "labels": ["odd", "eve"]}
    shell.write(labelled)
    answer = shell.call("run")
    answer.refuses(4, "task.labels names 'eve', which no training row has", "'even'", where=shell.place("labels"))
    labelled["task"] = {"name": "classification", "class_weights": {"evn": 2.0}}
    shell.write(labelled)
    answer = shell.call("run")
    answer.refuses(3, "task.class_weights names 'evn', which is not a class", "'even'", where=shell.place("evn"))


def test_weights_of_what_the_recipe_lists_as_no_class(shell: Shell, labelled: dict[str, Any]) -> None:
    labelled["task"] = {"name": "classification", "labels": ["odd", "even"], "class_weights": {"evn": 2.0, "x": 1.0}}
    shell.write(labelled)
    answer = shell.call("validate")
    answer.refuses(3, "names 'evn'", "did you mean 'even'?", "names 'x'", where=shell.place("evn"))


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"class_weights": "balancd"}, "task.class_weights"),
        ({"class_weights": {"odd": 0.0}}, "task.class_weights"),
        ({"class_weights": {}}, "task.class_weights"),
        ({"class_weights": {"odd": "two"}}, "task.class_weights"),
        ({"labels": []}, "task.labels"),
        ({"multi_label": "yes"}, "task.multi_label"),
        ({"classes": ["odd"]}, "unknown key 'task.classes'"),
    ],
)
def test_options_of_the_task(shell: Shell, labelled: dict[str, Any], task: dict[str, Any], said: str) -> None:
    shell.run({**labelled, "task": {"name": "classification", **task}}).refuses(3, said)


def test_a_table_with_a_short_row(shell: Shell, labelled: dict[str, Any]) -> None:
    (shell.folder / "rows.csv").write_text("text,label\n2,even\n3\n")
    labelled["data"]["train"] = [{"path": "rows.csv"}]
    shell.run(labelled).refuses(4, "the row has 1 field, the header 2", where=f"{shell.folder}/rows.csv:3")


def test_a_table_without_the_column(shell: Shell, labelled: dict[str, Any]) -> None:
    (shell.folder / "rows.csv").write_text("body,class\n2,even\n")
    labelled["data"]["train"] = [{"path": "rows.csv"}]
    shell.run(labelled).refuses(4, "the row has no 'text'", "'body', 'class'", where=f"{shell.folder}/rows.csv:2")


def test_a_folder_that_is_in_another_encoding(shell: Shell, labelled: dict[str, Any]) -> None:
    for label, content in (("even", b"two"), ("odd", b"caf\xe9")):
        (shell.folder / "mails" / label).mkdir(parents=True)
        (shell.folder / "mails" / label / "1.txt").write_bytes(content)
    labelled["data"]["train"] = [{"path": "mails"}]
    where = f"{shell.folder}/mails/odd/1.txt"
    shell.run(labelled).refuses(4, "the file is not in utf-8", "encodings = [", where=where)


def test_encodings_of_a_file_of_rows(shell: Shell, labelled: dict[str, Any], rows: Path) -> None:
    labelled["data"]["train"] = [{"path": rows.name, "reader": {"name": "folder", "encodings": ["latin-1"]}}]
    shell.run(labelled).refuses(4, "this is a file, not a folder", where=shell.place("path"))


def test_conversations_are_not_classified(shell: Shell, labelled: dict[str, Any], rows: Path) -> None:
    labelled["data"]["train"] = [{"path": rows.name, "format": "messages"}]
    shell.write({**labelled, "masking": "assistant", "batching": "packed"})
    answer = shell.call("validate")
    answer.refuses(3, "format 'messages' is for a task that learns tokens", "masking 'assistant'", "batching 'packed'")


def test_a_length_that_leaves_nothing_of_a_text(shell: Shell, labelled: dict[str, Any], rows: Path) -> None:
    from ..encoder import save_encoder

    labelled["model"]["source"] = str(save_encoder(shell.folder / "encoder"))
    answer = shell.run({**labelled, "batching": {"name": "padded", "max_length": 2}})
    answer.refuses(4, "max_length = 2 leaves no token of a text beside 2 special ones", where=f"{rows}:1")
