"""Good rows come with their lines; every kind of bad file is refused where it is bad."""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fttool.api import MAX_ROW_BYTES
from fttool.errors import DataError
from fttool.rows.files.source import fingerprint
from fttool_plugins.reader.json_rows import Json

from ...probes import imported_by
from .reading import numbered

GOOD = {"text": "a"}


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(count: int) -> str:
    return "".join(json.dumps({"n": n}) + "\n" for n in range(1, count + 1))


def refusal(path: Path, good: int = 0) -> tuple[str, str, str]:
    """(message, place after the path, hint) of the error, after exactly `good` rows."""
    seen = 0
    with pytest.raises(DataError) as caught:
        for _ in numbered(path, Json()):
            seen += 1
    assert seen == good
    (problem,) = caught.value.problems
    assert problem.where.startswith(str(path))
    assert problem.hint
    return problem.message, problem.where.removeprefix(str(path)), problem.hint


def at_most(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """No row may have more bytes than this."""
    for module in ("fttool.rows.files.file", "fttool_plugins.reader.json_array"):
        monkeypatch.setattr(f"{module}.MAX_ROW_BYTES", size)


# -- good files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\n\n", b"\r\n \t\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_lines_with_their_numbers(tmp_path: Path, mark: bytes, newline: bytes, last: bool, pack: Any) -> None:
    content = mark + newline.join([b'{"n": 1}', '  {"n": "é\u2028"}  '.encode(), b'{"n": [{}]}'])
    content += newline if last else b""
    path = write(tmp_path / "rows.jsonl", pack(content) if pack else content)
    step = newline.count(b"\n")
    expected = [{"n": 1}, {"n": "é\u2028"}, {"n": [{}]}]
    assert list(numbered(path, Json())) == [(1 + step * i, row) for i, row in enumerate(expected)]


def test_files_with_marks_that_were_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", b'\xef\xbb\xbf{"n": 1}\n' * 2)
    assert list(numbered(path, Json())) == [(1, {"n": 1}), (2, {"n": 1})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"n": 1}, {"n": 2}]', [(1, {"n": 1}), (1, {"n": 2})]),
        ('\ufeff\n [\r\n{"n":\n1},\n\n{"n": 2}\n]\n\n', [(3, {"n": 1}), (6, {"n": 2})]),
        ('[{"n": [1, {"m": "}],["}]}]', [(1, {"n": [1, {"m": "}],["}]})]),
    ],
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_an_array(tmp_path: Path, name: str, content: str, expected: list[tuple[int, Any]]) -> None:
    assert list(numbered(write(tmp_path / name, content), Json())) == expected


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_is_read_alike_however_it_is_cut_into_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    rng = random.Random(chunk)
    texts = ["", "é‖😀", '"}\n,[', "\\u00e9", "x" * 100, "\\"]
    data = [
        {rng.choice("abc"): [rng.choice(texts), rng.random(), -1e-5, True, None, {"d": rng.choice(texts)}]}
        for _ in range(30)
    ]
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    path = write(tmp_path / "rows.json", text)
    monkeypatch.setattr("fttool_plugins.reader.json_array.CHUNK", chunk)
    found = list(numbered(path, Json()))
    assert [row for _, row in found] == data
    starts = [number for number, line in enumerate(text.split("\n"), 1) if line == " {"] if indent else [1] * 30
    assert [line for line, _ in found] == starts


def test_rows_are_streamed(tmp_path: Path) -> None:
    """The first row of a file that is broken further on comes before the end is read."""
    for content in (jsonl(100_000) + "broken", "[" + jsonl(100_000).replace("\n", ",\n") + "broken"):
        reader = numbered(write(tmp_path / "rows.jsonl", content), Json())
        assert next(reader) == (1, {"n": 1})
        reader.close()  # type: ignore[attr-defined]


def test_escaped_pairs_of_surrogates_are_whole_characters(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", r'{"text": "\ud83d\ude00 \\ud800"}')
    assert list(numbered(path, Json())) == [(1, {"text": "😀 \\ud800"})]


# -- broken JSON ---------------------------------------------------------------------------------------------


def test_broken_json_on_line_1234(tmp_path: Path) -> None:
    lines = jsonl(2000).splitlines()
    lines[1233] = '{"messages": [{"role": "user" "content": "Hi"}]}'
    path = write(tmp_path / "rows.jsonl", "\n".join(lines))
    message, where, hint = refusal(path, good=1233)
    assert where == ":1234"
    assert message == (
        "broken JSON at column 31: expecting ',' delimiter, at '\"content\": \"Hi\"}]}' "
        'after \'{"messages": [{"role": "user" \''
    )
    assert hint == "fix or delete it (1,233 rows before it read well)"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("{'text': 'a'}", "broken JSON at column 2: expecting property name", "json.dumps"),
        ("text", "broken JSON at column 1: expecting value", "fix or delete it"),
        ('{"a": 1}{"b": 2}', "broken JSON at column 9: a second row on the line", "fix"),
        ('{"a": 1}, ', "broken JSON at column 9: more text after the row, at ',", "fix"),
        ('{"a": "b\0"}', "broken JSON at column 9: a NUL character, at '\\x00\"}", "write it again"),
        ('\0{"a": 1}', "broken JSON at column 1: a NUL character", "write it again"),
        ('{"a": "\x1b[31m"}', "broken JSON at column 8: invalid control character, at '\\x1b[31m", "fix"),
        ('{"a": [1,', "broken JSON at column 1", "may not span lines"),
        ('{"a": {"b": 1}', "broken JSON at column 1", "may not span lines"),
        ("{", "broken JSON at column 2", "may not span lines"),
    ],
)
def test_broken_json(tmp_path: Path, line: str, message: str, hint: str) -> None:
    path = write(tmp_path / "rows.jsonl", f'{{"a": 1}}\n\n{line}\n{{"a": 1}}\n')
    found, where, advice = refusal(path, good=1)
    assert found.startswith(message)
    assert where == ":3"
    assert hint in advice
    assert advice.endswith("(1 row before it read well)")
    assert found.isprintable()


@pytest.mark.parametrize(
    "end", ['{"text": "the end is mis', '{"text": "a"', '{"a": tru', '{"a": {"b": 1}', "{", '{"text": "é']
)
def test_the_last_line_is_cut_off(tmp_path: Path, end: str) -> None:
    content = (jsonl(3) + end).encode()
    path = write(tmp_path / "rows.jsonl", content[:-1] if end.endswith("é") else content)
    message, where, hint = refusal(path, good=3)
    assert (message, where) == ("the last line is cut off", ":4")
    assert hint == "write the file again, or delete the line (3 rows before it read well)"


@pytest.mark.parametrize(("line", "column"), [("{'a': 1}", 2), ("hello", 1), ('{"a": "the quote}', 7)])
def test_a_last_line_that_is_broken_and_not_cut(tmp_path: Path, line: str, column: int) -> None:
    message, where, _ = refusal(write(tmp_path / "rows.jsonl", jsonl(3) + line), good=3)
    assert message.startswith(f"broken JSON at column {column}: ")
    assert where == ":4"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('["a"]', "a row must be an object like {…}, this is an array"),
        ('"a"', "a row must be an object like {…}, this is a string"),
        ("3", "a row must be an object like {…}, this is a number"),
        ("-3.5", "a row must be an object like {…}, this is a number"),
        ("null", "a row must be an object like {…}, this is null"),
        ("false", "a row must be an object like {…}, this is false"),
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": [-Infinity]}', "-Infinity is not a JSON value"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}', "the key 'c' occurs twice in one object"),
        (r'{"a": "x\ud800y"}', "\\ud800 is half a character (a lone surrogate)"),
        (r'{"a\uDFFF": 1}', "\\udfff is half a character (a lone surrogate)"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "the row is nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "a number is too long: "),
        (  # must not compare each key with each
            "{" + ", ".join(f'"{n}": 0' for n in [*range(200_000), 199_999]) + "}",
            "the key '199999' occurs twice in one object",
        ),
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_what_json_readers_let_through_is_refused(tmp_path: Path, line: str, message: str, array: bool) -> None:
    content = f'[{{"a": 1}},\n{line},\n{{"a": 2}}]' if array else f'{{"a": 1}}\n{line}\n{{"a": 2}}\n'
    found, where, _ = refusal(write(tmp_path / "rows.jsonl", content), good=1)
    assert found.startswith(message)
    assert where == ":2"


def test_any_slip_of_the_hand_is_refused_or_leaves_objects(tmp_path: Path) -> None:
    rng = random.Random(3)
    data = [{"messages": [{"role": "user", "content": "é \\u00e9"}], "n": [1.5e3, True, None]}] * 3
    refused = 0
    for _ in range(300):
        text = "\n".join(map(json.dumps, data)) if rng.random() < 0.5 else json.dumps(data, indent=1)
        raw = bytearray(text.encode())
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(len(raw))] = rng.choice(b'[]{}",:\\\n\0ax1\xe9')
        path = write(tmp_path / "rows.jsonl", bytes(raw[: rng.choice([len(raw), rng.randrange(len(raw))])]))
        try:
            assert all(isinstance(row, dict) for _, row in numbered(path, Json()))
        except DataError as error:
            refused += 1
            (problem,) = error.problems
            line = problem.where.removeprefix(f"{path}").removeprefix(":") or "1"
            assert 1 <= int(line) <= path.read_bytes().count(b"\n") + 1
    assert refused > 150


# -- arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "good", "line"),
    [
        ('[\n{"n": 1},\n{"n": 2', 1, 3),
        ('[\n{"n": 1},\n{"n": "text', 1, 3),
        ('[\n{"n": 1},\n{"n": "text"\n', 1, 4),
        ('[\n{"n": 1},\n', 1, 3),
        ('[\n{"n": 1}', 1, 2),
        ("[", 0, 1),
        ('[{"n": 1},\n{"n":\n {"m": 2}', 1, 3),
    ],
)
def test_an_array_that_is_cut_off(tmp_path: Path, content: str, good: int, line: int) -> None:
    message, where, _ = refusal(write(tmp_path / "rows.json", content), good)
    assert message == "the array is cut off: the file ends before its ']'"
    assert where == f":{line}"


@pytest.mark.parametrize("content", ['[{"n": 1},\n{"n": "é', '[{"n": 1}\n]é'])
def test_an_array_cut_off_inside_a_character(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "rows.json", content.encode()[:-1])
    assert refusal(path, 1)[:2] == ("the file is cut off inside a character", ":2")


def test_an_array_cut_off_after_much_text(tmp_path: Path) -> None:
    content = ("[" + jsonl(50_000).replace("\n", ",\n"))[:-9].encode()
    assert refusal(write(tmp_path / "b.json", content), 49_999)[:2] == (
        "the array is cut off: the file ends before its ']'",
        ":50000",
    )


@pytest.mark.parametrize(
    ("content", "good", "message", "line"),
    [
        ('[{"n": 1}\n {"n": 2}]', 1, "broken JSON at column 2: expecting ',' or ']'", 2),
        ('[{"n": 1},\n]', 1, "broken JSON at column 1: expecting value", 2),
        ('[{"n": 1}]\n {"n": 2}', 1, "broken JSON at column 2: text after the array's end", 2),
        ("[]]", 0, "broken JSON at column 3: text after the array's end", 1),
        ('[{"n": 1},\n{"n":\n  2 3}]', 1, "broken JSON at column 5: expecting ',' delimiter", 3),
        ('[{"n": "one\ntwo"}]', 0, "broken JSON at column 12: invalid control character", 1),
        ('[{"n": \0}]', 0, "broken JSON at column 8: a NUL character", 1),
        ("[{'n': 1}]", 0, "broken JSON at column 3: expecting property name", 1),
    ],
)
def test_an_array_that_is_broken(tmp_path: Path, content: str, good: int, message: str, line: int) -> None:
    found, where, _ = refusal(write(tmp_path / "rows.json", content), good)
    assert found.startswith(message)
    assert where == f":{line}"


def test_a_broken_array_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, 1 << 20)
    broken = "[" + jsonl(10).replace("\n", ",\n") + "{'n': 11},\n" + jsonl(300_000).replace("\n", ",\n")
    message, where, _ = refusal(write(tmp_path / "rows.json", broken), 10)
    assert where == ":11"
    assert message.startswith("broken JSON at column 2")


# -- bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_invalid_utf_8(tmp_path: Path, pack: Any) -> None:
    for name, content in (
        ("rows.jsonl", b'{"n": 1}\n{"n": "caf\xe9"}\n{"n": 3}\n'),
        ("rows.json", b'[{"n": 1},\n{"n": "caf\xe9"}, {"n": 3}]'),
        ("joined.json", b'\xef\xbb\xbf[{"n": 1},\n{"n": "caf\xe9"}, {"n": 3}]'),
    ):
        path = write(tmp_path / name, pack(content) if pack else content)
        seen = 0
        with pytest.raises(DataError) as caught:
            for _ in numbered(path, Json()):
                seen += 1
        (problem,) = caught.value.problems
        assert (problem.message, problem.where) == ("byte 0xe9 at column 11 is not UTF-8", f"{path}:2")
        assert ("unpack it and save it" if pack else "iconv -f WINDOWS-1252 -t UTF-8") in problem.hint


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings(tmp_path: Path, encoding: str) -> None:
    message, where, hint = refusal(write(tmp_path / "rows.jsonl", '{"n": 1}\n'.encode(encoding)))
    assert message.startswith(f"the file is in {encoding[:6].upper()}")
    assert where == ""
    assert "iconv -f UTF-" in hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (b"\n \r\n\t\n", "the file has only blank lines"),
        (b"\xef\xbb\xbf\n", "the file has only blank lines"),
        (b"[]", "the file is an empty array"),
        (b" [ \n ] \n", "the file is an empty array"),
        (b"PAR1xxxx", "this is a Parquet file, not text"),
        (b"PK\x03\x04xxxx", "this is a zip archive, not text"),
        (b"BZh9xxxx", "the compressed file is damaged, or cut off: Invalid data stream"),
    ],
)
def test_files_without_rows(tmp_path: Path, content: bytes, message: str) -> None:
    assert refusal(write(tmp_path / "rows.jsonl", content))[:2] == (message, "")


@pytest.mark.parametrize("content", ['{"n": 1}\n{"text": "%s"}\n', '[{"n": 1},\n{"text": "%s"}]'])
def test_a_row_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    at_most(monkeypatch, 300_000)
    path = write(tmp_path / "rows.jsonl", content % ("x" * 400_000))
    message, where, _ = refusal(path, good=1)
    assert message in ("the line is longer than 300,000 bytes", "the row is longer than 300,000 bytes")
    assert where == ":2"
    path = write(tmp_path / "rows.jsonl", content % ("x" * 200_000))
    assert len(list(numbered(path, Json()))) == 2


def test_no_more_is_read_than_a_row_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ROW_BYTES == 100_000_000
    at_most(monkeypatch, 1_000_000)
    for start in ('{"text": "', '[{"text": "'):
        path = write(tmp_path / "rows.jsonl", start + "x" * 20_000_000)
        tracemalloc.start()
        try:
            refusal(path)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


# -- compressed files ----------------------------------------------------------------------------------------


def test_gzip_that_is_cut_off_or_damaged(tmp_path: Path) -> None:
    rng = random.Random(1)
    content = "".join(json.dumps({"n": rng.random()}) + "\n" for _ in range(20_000)).encode()
    packed = gzip.compress(content)
    path = write(tmp_path / "rows.jsonl.gz", packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz:\d+: the compressed file is cut off\n.* read well"):
        list(numbered(path, Json()))
    for broken in (packed[:-8] + bytes(8), packed + b"garbage", packed[:5000] + bytes(500) + packed[5500:]):
        with pytest.raises(DataError, match=r"the compressed file is damaged: "):
            list(numbered(write(path, broken), Json()))


def test_gzip_of_several_members(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl.gz", gzip.compress(b'{"n": 1}\n') + gzip.compress(b'{"n": 2}\n'))
    assert [line for line, _ in numbered(path, Json())] == [1, 2]


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


PACKING: dict[str, Any] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.mark.parametrize("suffix", PACKING)
def test_what_is_packed_is_unpacked_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    content = jsonl(5_000).encode()
    for name in (f"rows.jsonl{suffix}", "rows.jsonl"):
        path = write(tmp_path / name, PACKING[suffix](content))
        assert [(line, row["n"]) for line, row in numbered(path)] == [(n, n) for n in range(1, 5_001)]


@pytest.mark.parametrize("suffix", PACKING)
@pytest.mark.parametrize("seed", range(10))
def test_what_is_packed_and_broken_is_refused(tmp_path: Path, suffix: str, seed: int) -> None:
    draw = random.Random(seed)
    content = "".join(json.dumps({"n": draw.getrandbits(64)}) + "\n" for _ in range(5_000)).encode()
    whole = PACKING[suffix](content)
    cut = whole[: draw.randrange(len(whole) // 8, len(whole) - 8)]
    place = draw.randrange(len(whole) // 8, len(whole) - 16)
    turned = whole[:place] + bytes(255 - byte for byte in whole[place : place + 8]) + whole[place + 8 :]
    for broken in (cut, turned):
        path = write(tmp_path / f"rows.jsonl{suffix}", broken)
        try:
            rows = list(numbered(path))
        except DataError as refused:
            assert str(path) in str(refused)
        else:
            assert broken is turned and suffix == ".zst" and len(rows) == 5_000  # pyarrow writes no checksum


# -- the file itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", [lambda path: list(numbered(path, Json())), fingerprint])
def test_paths_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any) -> None:
    write(tmp_path / "rows.jsonl", jsonl(1))
    with pytest.raises(DataError, match=r"row\.jsonl: no such file\n +did you mean '.*/rows\.jsonl'\?"):
        reader(tmp_path / "row.jsonl")
    if reader is not fingerprint:  # which a folder has too
        with pytest.raises(DataError, match=r"this is a folder, not a file\n +name a file in it: 'rows\.jsonl'"):
            reader(tmp_path)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        reader(tmp_path / "rows.jsonl")


def test_a_file_that_grows_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", jsonl(10))
    reader = numbered(path, Json())
    next(reader)
    with path.open("a") as file:
        file.write('{"n": 11}\n{"n": ')
    with pytest.raises(DataError, match=r"rows\.jsonl: the file changed while it was read\n +wait until"):
        list(reader)


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", jsonl(10))
    status = path.stat()
    reader = numbered(path, Json())
    next(reader)
    new = write(tmp_path / "new.jsonl", jsonl(10))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    with pytest.raises(DataError, match="changed while it was read"):
        list(reader)


def test_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 1000
    path = write(tmp_path / "rows.jsonl", content)
    expected = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert fingerprint(path) == expected

    class Writing:
        """Stands in for SHA-256, and touches the file while it is being hashed."""

        def update(self, _: bytes) -> None:
            write(path, content + b"more")

    monkeypatch.setattr("fttool.rows.files.source.hashlib.sha256", Writing)
    with pytest.raises(DataError, match="changed while it was read"):
        fingerprint(path)


def test_reading_needs_neither_torch_nor_datasets() -> None:
    assert imported_by("import fttool_plugins.reader, fttool.recipe.toml", "torch", "datasets", "numpy") == set()
