"""Rows that cannot be learned from are named by file and line; what is dropped is counted; nothing is written."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ..rows import write_rows
from .conftest import Shell, Site


def row(*contents: Any, roles: str = "ua", **more: Any) -> str:
    """A conversation as a line; roles by their first letter."""
    names = {"u": "user", "a": "assistant", "s": "system", "h": "human", "g": "gpt", "x": "asistant", "n": "narrator"}
    turns = [{"role": names[role], "content": content} for role, content in zip(roles, contents, strict=True)]
    return json.dumps({"messages": turns, **more}) + "\n"


GOOD = row("What is 2?", "2 is 2.")


def dry_run(shell: Shell, recipe: dict[str, Any], *words: str) -> dict[str, Any]:
    """What a run of the recipe would do, without what changes by itself: room on the disk, seconds of the proof."""
    answer = shell.run(recipe, "--dry-run", "--json", *words)
    assert answer.code == 0, answer.err
    summary = json.loads(answer.out.splitlines()[-1])["summary"]
    del summary["disk"]["free"], summary["proof"]["seconds"]
    return summary


# -- the file ------------------------------------------------------------------------------------------------------


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


FILES: dict[str, tuple[bytes, str, tuple[str, ...]]] = {
    "empty": (b"", "", ("the file is empty", "one JSON object per line")),
    "blank lines": (b"\n \n\r\n\t\n", "", ("the file has only blank lines",)),
    "broken on line 1,234": (
        GOOD.encode() * 1233 + b'{"messages": [}\n' + GOOD.encode(),
        ":1234",
        ("broken JSON at column 15", "1,233 rows before it read well"),
    ),
    "last line cut off": (GOOD.encode() * 3 + GOOD.encode()[:40], ":4", ("the last line is cut off", "3 rows before")),
    "array cut off": (
        b"[\n" + GOOD.encode().strip() + b",\n" + GOOD.encode()[:40],
        ":3",
        ("the array is cut off", "1 row before it read well"),
    ),
    "array broken": (b"[" + GOOD.strip().encode() + b"\n" + GOOD.encode() + b"]", ":2", ("expecting ','",)),
    "Latin-1": (
        GOOD.encode() + GOOD.replace("What", "W\xfcat").encode("latin-1"),
        ":2",
        ("byte 0xfc at column", "is not UTF-8", "iconv -f WINDOWS-1252 -t UTF-8"),
    ),
    "UTF-16": (GOOD.encode("utf-16"), "", ("in UTF-16, not in UTF-8", "iconv -f UTF-16 -t UTF-8")),
    "NUL bytes": (GOOD.encode() + b"\0" * 100, ":2", ("a NUL character", "write it again")),
    "lone surrogate": (GOOD.replace("What", "\\ud800").encode(), ":1", ("half a character", "fix or delete the row")),
    "NaN": (b'{"messages": NaN}\n', ":1", ("NaN is not a JSON value",)),
    "a key twice": (b'{"text": "a", "text": "b"}\n', ":1", ("the key 'text' occurs twice",)),
    "gzip cut off": (
        gzip.compress(GOOD.encode() * 9)[:-12],
        "",
        ("the compressed file is cut off", "copy or download"),
    ),
    "gzip damaged": (
        gzip.compress(GOOD.encode())[:-8] + b"\0" * 8,
        "",
        ("the compressed file is damaged", "copy or download"),
    ),
    "zstd cut off": (zstd(GOOD.encode() * 9)[:-6], "", ("the compressed file is damaged, or cut off",)),
    "Parquet cut off": (b"PAR1" + bytes(20), "", ("this is not a whole Parquet file", "copy or download")),
    "Arrow cut off": (b"ARROW1" + bytes(20), "", ("the file is damaged or cut off", "copy or download")),
    "an Arrow stream": (b"\xff\xff\xff\xff" + bytes(20), "", ("the file is damaged or cut off",)),
    "bzip2 cut off": (bz2.compress(GOOD.encode())[:-9], "", ("the compressed file is cut off", "copy or download")),
    "xz damaged": (lzma.compress(GOOD.encode())[:-30] + bytes(30), "", ("the compressed file is damaged",)),
    "a zip archive": (b"PK\x03\x04" + bytes(20), "", ("this is a zip archive, not text", "unzip")),
    "no object": (GOOD.encode() + b'["a"]\n', ":2", ("a row must be an object", "this is an array")),
    "two rows on a line": (GOOD.strip().encode() * 2, ":1", ("a second row on the line",)),
    "Python": (b"{'messages': []}\n", ":1", ("double quotes", "json.dumps")),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_jsonl_is_refused(shell: Shell, recipe: dict[str, Any], rows: Path, kind: str) -> None:
    content, line, said = FILES[kind]
    rows.write_bytes(content)
    answer = shell.run(recipe)
    of_the_whole = "" if "gzip" in kind else shell.place("path")
    answer.refuses(4, str(rows), *said, where=f"{rows}{line}" if line else of_the_whole)


@pytest.mark.parametrize("name", ["rows.doc", "rows.rtf", "rows"])
def test_a_file_of_another_kind_is_not_called_broken_json(shell: Shell, recipe: dict[str, Any], name: str) -> None:
    (shell.folder / name).write_text("-DOCSTART- -X- O O\n\nOslo NNP B-NP B-LOC\n")
    recipe["data"]["train"][0]["path"] = name
    answer = shell.run(recipe)
    said = (str(shell.folder / name), "this is not JSON lines", "fttool plugins --family reader")
    answer.refuses(4, *said, where=shell.place("path"))


def test_rows_inside_a_column_and_a_table_without_a_header_are_told(
    shell: Shell, recipe: dict[str, Any], rows: Path
) -> None:
    rows.write_text(json.dumps({"data": json.loads(GOOD)}) + "\n")
    shell.run(recipe).refuses(4, "it lies inside 'data'", where=f"{rows}:1")
    (shell.folder / "rows.csv").write_text("ham,Go until jurong point\nspam,Free entry in 2\n")
    recipe["data"]["train"][0]["path"] = "rows.csv"
    shell.run(recipe).refuses(4, "does the file lack a first row", where=f"{shell.folder / 'rows.csv'}:2")


def test_an_endless_line_is_refused(
    shell: Shell, recipe: dict[str, Any], rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fttool.rows.files.file.MAX_ROW_BYTES", 1000)
    rows.write_text(GOOD + row("a" * 2000, "b"))
    answer = shell.run(recipe)
    answer.refuses(4, "the line is longer than 1,000 bytes", "own line", where=f"{rows}:2")


@pytest.mark.parametrize("kind", ["missing", "another folder", "folder", "link", "/dev/null"])
def test_a_path_that_is_no_file_is_refused(shell: Shell, recipe: dict[str, Any], rows: Path, kind: str) -> None:
    path, said = {
        "missing": ("row.jsonl", ("no such file", "did you mean", "rows.jsonl")),
        "another folder": ("date/rows.jsonl", ("the folder", "does not exist")),
        "folder": ("site", ("the folder is empty",)),
        "link": ("link.jsonl", ("which does not exist",)),
        "/dev/null": ("/dev/null", ("a pipe or a device",)),
    }[kind]
    (shell.folder / "site").mkdir()
    (shell.folder / "link.jsonl").symlink_to("nowhere")
    recipe["data"]["train"][0]["path"] = path
    answer = shell.run(recipe)
    answer.refuses(4, str(shell.folder / path), *said, where=shell.place("path"))


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: text.rstrip("\n").encode(),
        lambda text: text.replace("\n", "\n\n").encode(),
        lambda text: ("[" + ",".join(text.splitlines()) + "]").encode(),
    ],
    ids=["BOM", "CRLF", "gzip", "no last newline", "blank lines between", "array"],
)
def test_marks_line_ends_and_packing_change_nothing(
    shell: Shell, recipe: dict[str, Any], rows: Path, encode: Callable[[str], bytes]
) -> None:
    plain = dry_run(shell, recipe)
    rows.write_bytes(encode(rows.read_text()))
    assert dry_run(shell, recipe) == plain


CHANGING = """\
from pathlib import Path
from typing import Literal
from fttool.api import Example, Format, hookimpl

class Appending(Format):
    \"\"\"Writes a row for each that is read.\"\"\"
    name: Literal["acme.append"] = "acme.append"

    def build(self, ctx):
        def read(row, origin):
            with Path(ctx.origin).open("a") as file:
                file.write('{"text": "more"}\\n')
            return Example(origin=origin, completion="text")
        return read

@hookimpl
def fttool_strategies():
    return [Appending]
"""


def test_a_file_that_changes_while_it_is_read_is_refused(
    shell: Shell, site: Site, recipe: dict[str, Any], rows: Path
) -> None:
    site.install(CHANGING)
    recipe["data"]["train"] = [{"path": rows.name, "format": "acme.append", "limit": 4}]
    answer = shell.run(recipe)
    answer.refuses(4, "the file changed while it was read", "wait until it is complete", where=str(rows))


def test_a_dataset_of_the_hub_while_offline_is_refused(
    shell: Shell, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    recipe["data"]["train"] = [{"hub": "acme/rows"}]
    answer = shell.run(recipe)
    answer.refuses(4, "cannot load the dataset 'acme/rows' (train)", "check the name", where=shell.place("hub"))


# -- the rows ------------------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no messages": (
        '{"question": "a", "answer": "b"}\n',
        ("the row has no 'messages'", 'format = {name = "alpaca", instruction = "question", output = "answer"}'),
    ),
    "another format": ('{"prompt": "a", "completion": "b"}\n', ('looks like format = "prompt-completion"',)),
    "sharegpt": ('{"conversations": [{"from": "human", "value": "a"}]}\n', ('looks like format = "sharegpt"',)),
    "mixed types": ('{"messages": "Hello"}\n', ("'messages' is a string, not a list of turns",)),
    "a number": ('{"messages": 3}\n', ("'messages' must be a list of turns, this is int",)),
    "null": ('{"messages": null}\n', ("'messages' is null",)),
    "no turns": ('{"messages": []}\n', ("'messages' has no turns",)),
    "a turn of text": ('{"messages": ["Hello"]}\n', ("turn 1 of 'messages' must be", "this is str")),
    "no role": ('{"messages": [{"content": "a"}]}\n', ("has no 'role'",)),
    "human": (row("a", "b", roles="ha"), ("has the role 'human'", "rename it to 'user'")),
    "gpt": (row("a", "b", roles="ug"), ("has the role 'gpt'", "rename it to 'assistant'")),
    "misspelt role": (row("a", "b", roles="ux"), ("has the role 'asistant'", "did you mean 'assistant'?")),
    "unknown role": (row("a", "b", roles="na"), ("has the role 'narrator'", "known are system, developer")),
    "two user turns": (row("a", "b", "c", roles="uua"), ("turns 1 and 2 are both of the user", "join them")),
    "two assistant turns": (row("a", "b", "c", roles="uaa"), ("turns 2 and 3 are both of the assistant",)),
    "ends in the user": (row("a", "b", "c", roles="uau"), ("ends in the user", "drop the turn")),
    "no assistant": (row("a", roles="u"), ("has no assistant turn",)),
    "null content": (row("a", None), ("turn 2 of 'messages' (assistant) is null",)),
    "empty content": (row("a", "  "), ("turn 2 of 'messages' (assistant) is empty",)),
    "empty question": (row("", "b"), ("turn 1 of 'messages' (user) is empty",)),
    "content of parts": (row([{"type": "image", "url": "x"}], "b"), ("of type 'image'; only text",)),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_that_is_no_conversation_is_named(shell: Shell, recipe: dict[str, Any], rows: Path, kind: str) -> None:
    bad, said = ROWS[kind]
    rows.write_text(GOOD * 2 + bad + GOOD)
    answer = shell.run(recipe)
    answer.refuses(4, *said, "fix or delete this row", where=f"{rows}:3")


PLAIN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "empty completion": ("prompt-completion", '{"prompt": "a", "completion": " "}', ("'completion' is empty",)),
    "null completion": ("prompt-completion", '{"prompt": "a", "completion": null}', ("'completion' is null",)),
    "text and turns": ("prompt-completion", '{"prompt": "a", "completion": [1]}', ("must both be text",)),
    "no completion": ("prompt-completion", '{"prompt": "a", "answer": "b"}', ("has no 'completion'",)),
    "messages": ("prompt-completion", GOOD.strip(), ('looks like format = "messages"',)),
    "empty text": ("text", '{"text": ""}', ("'text' is empty",)),
    "a number for text": ("text", '{"text": 3}', ("'text' must be text, this is int",)),
    "other columns": ("text", '{"txet": "a"}', ("has no 'text'", 'column = "txet"')),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_row_that_is_no_text_is_named(shell: Shell, recipe: dict[str, Any], rows: Path, kind: str) -> None:
    format_id, bad, said = PLAIN[kind]
    good = '{"text": "a b"}' if format_id == "text" else '{"prompt": "a", "completion": "b"}'
    rows.write_text(f"{good}\n{bad}\n")
    recipe["data"]["train"][0]["format"] = format_id
    answer = shell.run(recipe)
    answer.refuses(4, *said, where=f"{rows}:2")


def test_a_hundred_bad_rows_fit_on_the_screen(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    """They are alike, so they are named once, with the next places."""
    rows.write_text(GOOD + row("a", "b" * 50, roles="u" + "h") * 100 + "{")
    answer = shell.run(recipe)
    answer.refuses(
        4, "(also at :3, :4, :5, :6 and 95 more)", "fix or delete these rows; there may be more", where=f"{rows}:2"
    )
    assert answer.err.count("rename it to 'user'") == 1


def test_bad_rows_of_several_kinds_are_each_named_once(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    """The rare kind is not hidden by the common one."""
    common, rare = row("a", "b", roles="uh"), row("a", "b", "c", roles="uau")
    rows.write_text(GOOD + common * 30 + rare + common * 30)
    answer = shell.run(recipe)
    answer.refuses(4, "and 55 more", "ends in the user", 'on_bad_row = "drop"', where=f"{rows}:32")


def test_rows_of_which_none_is_good_are_likely_of_another_format(
    shell: Shell, recipe: dict[str, Any], rows: Path
) -> None:
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    answer = shell.run(recipe)
    answer.refuses(4, "not one of 3 rows could be read: is format 'messages' the right one?", where=f"{rows}:1")
    assert "delete" not in answer.err


def test_a_value_of_any_length_stays_on_the_screen(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    rows.write_text(json.dumps({"messages": [{"role": "x" * 100_000, "content": "a"}]}) + "\n")
    answer = shell.run(recipe)
    answer.refuses(4, "has the role", where=f"{rows}:1")
    assert len(answer.err) < 24 * 80


def test_bad_rows_are_left_out_on_request_and_listed(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    rows.write_text(rows.read_text() + row("a", "") + GOOD)
    recipe["data"]["train"][0] |= {"on_bad_row": "drop", "max_bad_rows": 1}
    answer = shell.run(recipe)
    assert (
        answer.code == 0 and "1 of 10 rows is bad and left out: turn 2 of 'messages' (assistant) is empty" in answer.err
    )
    folder = shell.runs / "recipe"
    (listed,) = map(json.loads, (folder / "dropped.jsonl").read_text().splitlines())
    assert any(str(value).endswith("rows.jsonl:9") for value in listed.values()) and "is empty" in listed["reason"]
    assert json.loads((folder / "summary.json").read_text())["dropped_rows"] == {
        "bad: turn 2 of 'messages' (assistant) is empty": 1
    }
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["text"] for event in events if event["event"] == "rows_noted" and "bad" in event["text"]]
    (source,) = json.loads((folder / "lock.json").read_text())["files"]
    assert (source["rows"], source["bad_rows"]) == (9, 1)


def test_columns_are_listed_by_validate_dry_run_and_lock(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    """Alike, and with the counts of these rows: `tag` is filled in three of the eight."""
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for index, line in enumerate(lines):
        line["tag"] = "x" if index < 3 else ""
        line["messages"][0]["name"] = "Ada" if index < 2 else None
    write_rows(rows, lines)
    listed = {"columns": {"messages": {"read": 8}, "tag": {"not_read": 3}}}
    shell.write(recipe)
    answer = shell.call("validate")
    assert answer.code == 0
    assert "train rows: columns not read: tag (3)" in answer.out and "keys of turns read: role (16), " in answer.out
    found = dry_run(shell, recipe)["rows"]["datasets"]["data.train.0"]
    assert found["columns"] == listed["columns"]
    assert found["turn_keys"]["name"] == {"read": 2, "passed_on": 2}
    answer = shell.run(recipe)
    assert answer.code == 0 and "rows: columns that are not read: tag (3)" in answer.err
    (source,) = json.loads((shell.runs / "recipe" / "lock.json").read_text())["files"]
    assert source["columns"] == listed["columns"] and source["turn_keys"] == found["turn_keys"]


def test_validate_looks_at_the_first_rows_and_passes_over_the_hub(
    shell: Shell, recipe: dict[str, Any], rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fttool.cli.validate.FIRST", 4)
    recipe["data"]["retention"] = [{"hub": "acme/rows"}]
    recipe["data"]["train"][0]["ignore"] = ["late"]
    shell.write(recipe)
    answer = shell.call("validate")
    assert answer.code == 0 and "4 of 4 rows are good, the first ones" in answer.out
    assert "which no row has" not in answer.out, "the rest may have it"
    assert "not checked: the chat template, masks, control tokens" in answer.out
    assert "not checked: on the hub" in answer.out
    rows.write_text(row("a", "") + rows.read_text())
    shell.call("validate").refuses(4, "is empty", where=f"{rows}:1")
    assert shell.call("validate", "--no-rows").code == 0


NOTHING: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "a row marked": ([{"loss": False}], {}, "1 marked as not learned"),
    "rows marked": ([{"weight": 0}, {"masked": True}], {}, "2 marked as not learned"),
    "every answer marked": ([{}], {"weight": 0}, "1 nothing to learn beside turns marked as not learned"),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_rows_of_which_none_is_learned_are_refused_by_validate_too(
    shell: Shell, recipe: dict[str, Any], rows: Path, kind: str
) -> None:
    columns, mark, reason = NOTHING[kind]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", **mark}]
    write_rows(rows, ({"messages": turns, **more} for more in columns))
    shell.write(recipe)
    said = (f"not one row of train 'rows' is good (dropped: {reason})", "leave nothing to learn")
    shell.call("validate").refuses(4, *said, where=shell.place("train"))
    answer = shell.run(recipe)
    answer.refuses(4, f"no training row is left (dropped: {reason})", said[1], where=shell.place("train"))
    rows.write_text(rows.read_text() + GOOD)
    answer = shell.call("validate")
    assert answer.code == 0 and f"1 of {len(columns) + 1} rows is good" in answer.out and reason[2:] in answer.out


# -- what is left of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("too_long", ["truncate", "drop"])
def test_prompts_that_are_all_too_long_leave_nothing(shell: Shell, recipe: dict[str, Any], too_long: str) -> None:
    recipe["batching"] |= {"max_length": 10, "too_long": too_long}
    answer = shell.run(recipe)
    reason = "8 longer than 10 tokens" if too_long == "drop" else "8 nothing to learn in the first 10 tokens"
    answer.refuses(
        4, f"no training row is left (dropped: {reason})", "raise batching.max_length", where=shell.place("train")
    )


def test_rows_cut_before_their_answer_are_dropped_and_counted(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    rows.write_text(GOOD * 3 + row("long " * 100, "b") * 2)
    found = dry_run(shell, recipe, "--set", "batching.max_length=64")["rows"]
    expected = {"train": 3, "eval": 0, "dropped": {"nothing to learn in the first 64 tokens": 2}, "truncated": 0}
    assert {key: found[key] for key in expected} == expected


def test_filters_that_leave_no_row_are_named(shell: Shell, recipe: dict[str, Any]) -> None:
    recipe["filters"] = [{"name": "words", "min": 1000}]
    answer = shell.run(recipe)
    answer.refuses(4, "no training row is left (dropped: 8 fewer than 1000 words)", "loosen the filters")


def test_an_evaluation_share_that_leaves_no_training_row_is_refused(shell: Shell, recipe: dict[str, Any]) -> None:
    recipe["data"]["eval_share"] = 0.999999
    answer = shell.run(recipe)
    answer.refuses(4, "no training row is left", "lower data.eval_share")


def test_training_rows_that_stand_in_the_evaluation_are_dropped_and_counted(
    shell: Shell, recipe: dict[str, Any], rows: Path
) -> None:
    held_out = rows.with_name("eval.jsonl")
    lines = rows.read_text().splitlines(keepends=True)
    held_out.write_text("".join(lines[2:5]) + GOOD.replace("2?", "two?"))
    recipe["data"]["eval"] = [{"path": held_out.name}]
    found = dry_run(shell, recipe)["rows"]
    assert (found["train"], found["eval"], found["dropped"]) == (5, 4, {"also in the evaluation rows": 3})
    answer = shell.run(recipe)
    assert answer.code == 0 and "dropped rows: 3 also in the evaluation rows" in answer.out
    summary = json.loads((shell.runs / "recipe" / "summary.json").read_text())
    assert summary["dropped_rows"] == {"also in the evaluation rows": 3}


def test_an_evaluation_of_the_training_rows_leaves_nothing_to_train(shell: Shell, recipe: dict[str, Any]) -> None:
    recipe["data"]["eval"] = [{"path": "rows.jsonl"}]
    answer = shell.run(recipe)
    answer.refuses(4, "no training row is left (dropped: 8 also in the evaluation rows)")


def test_a_folder_of_files_of_rows_is_no_folder_of_texts(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    (shell.folder / "site").mkdir()
    rows.rename(shell.folder / "site" / "rows.jsonl")
    recipe["data"]["train"][0]["path"] = "site"
    where = str(shell.folder / "site" / "rows.jsonl")
    shell.run(recipe).refuses(4, "by its name this is not a text file", "name it as the path", where=where)
