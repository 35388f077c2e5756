"""What cannot be learned as tags of words: rows without them, of other lengths, of unknown ones; files that break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..rows import write_rows
from .conftest import Shell

GOOD = {"tokens": ["Anna", "sings"], "tags": ["B-PER", "O"]}


@pytest.fixture
def tagged(recipe: dict[str, Any], rows: Path) -> dict[str, Any]:
    write_rows(rows, [GOOD] * 8)
    return {**recipe, "task": "token-classification", "data": {"train": [{"path": rows.name}]}}


ROWS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no words": ({"tokens": [], "tags": []}, ("'tokens' is empty, so there is no word to tag",)),
    "fewer tags": ({"tokens": ["a", "b"], "tags": ["O"]}, ("'tokens' has 2 words and 'tags' 1 tags",)),
    "more tags": ({"tokens": ["a"], "tags": ["O", "O"]}, ("'tokens' has 1 words and 'tags' 2 tags",)),
    "no tags": ({"tokens": ["a"]}, ("the row has no 'tags'",)),
    "a blank word": ({"tokens": ["a", " "], "tags": ["O", "O"]}, ("entry 2 of 'tokens' is blank",)),
    "a number for a word": ({"tokens": [5], "tags": ["O"]}, ("entry 1 of 'tokens' must be a word, this is int",)),
    "text for words": ({"tokens": "a b", "tags": ["O", "O"]}, ("'tokens' must be a list",)),
    "B without an entity": ({"tokens": ["a"], "tags": ["B-"]}, ("tag 1 of 'tags' is 'B-', which names no entity",)),
    "a blank tag": ({"tokens": ["a"], "tags": [" "]}, ("tag 1 of 'tags' is blank",)),
    "null for a tag": ({"tokens": ["a"], "tags": [None]}, ("must be text or a whole number, this is null",)),
    "a numbered tag": ({"tokens": ["a"], "tags": [1]}, ("tag 1 of 'tags' is the number 1", "names = [")),
    "two columns of tags": ({**GOOD, "ner_tags": ["O", "O"]}, ("both 'tags' and 'ner_tags'",)),
    "a control token": ({"tokens": ["<|im_end|>"], "tags": ["O"]}, ("1 control token",)),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_that_cannot_be_tagged_is_named(shell: Shell, tagged: dict[str, Any], rows: Path, kind: str) -> None:
    row, said = ROWS[kind]
    write_rows(rows, [GOOD, GOOD, row])
    shell.run(tagged).refuses(4, *said, where=f"{rows}:3")


def test_a_tag_that_training_never_saw(shell: Shell, tagged: dict[str, Any], rows: Path) -> None:
    write_rows(
        rows.with_name("eval.jsonl"), [{**GOOD, "tokens": ["Lee", "sings"]}, {"tokens": ["Rome"], "tags": ["B-LOC"]}]
    )
    tagged["data"]["eval"] = [{"path": "eval.jsonl"}]
    said = "no training row has the tag 'B-LOC'", "or name it in task.labels"
    shell.run(tagged).refuses(4, *said, where=f"{shell.folder}/eval.jsonl:2")
    tagged["task"] = {"name": "token-classification", "labels": ["O", "B-PER", "B-LOC"]}
    assert shell.run(tagged).code == 0


def test_numbers_of_tags(shell: Shell, tagged: dict[str, Any], rows: Path) -> None:
    tagged["data"]["train"][0]["format"] = {"name": "tagged", "names": ["O", "B-PER"]}
    write_rows(rows, [{"tokens": ["Anna", "sings"], "ner_tags": [1, 0]}, {"tokens": ["Rome"], "ner_tags": [2]}])
    said = "tag 1 of 'ner_tags' is the number 2", "names go from 0 to 1"
    shell.run(tagged).refuses(4, *said, where=f"{rows}:2")
    write_rows(rows, [{"tokens": ["Anna", "sings"], "ner_tags": [1, 0]}] * 8)
    assert shell.run(tagged).code == 0


def test_a_line_of_a_table_of_words(shell: Shell, tagged: dict[str, Any]) -> None:
    (shell.folder / "rows.conll").write_text("Anna B-PER\nsings O\n\nRome\n")
    tagged["data"]["train"] = [{"path": "rows.conll"}]
    shell.run(tagged).refuses(4, "the line has one column, 'Rome'", where=f"{shell.folder}/rows.conll:4")
