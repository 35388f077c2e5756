"""Columns and spools are the lists that were put into them, in memory, on disk, in another process, and saved."""

from __future__ import annotations

import gc
import os
import pickle
import random
from array import array
from pathlib import Path
from typing import Any

import pytest

from fttool.contracts.rows import Example
from fttool.rows import spooled
from fttool.rows.checks.noted import Noted
from fttool.rows.spooled import Column, Spool, texts


@pytest.fixture(params=[16, 100, 2**18], autouse=True)
def most_in_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    monkeypatch.setattr(spooled, "IN_MEMORY", request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return request.param


def filled(kind: str, draw: random.Random, count: int) -> tuple[Column, list[int]]:
    column, twin, bits = Column(kind), list[int](), 8 * array(kind).itemsize
    while len(twin) < count:
        some = [draw.randrange(2**bits) - (0 if kind.isupper() else 2 ** (bits - 1)) for _ in range(draw.randrange(9))]
        match draw.randrange(3):
            case 0:
                column.extend(some)
            case 1:
                column.add_bytes(array(kind, some).tobytes())
            case _:
                for number in some:
                    column.append(number)
        twin += some
        if draw.random() < 0.1:
            assert_same(column, twin, draw)
    return column, twin


def assert_same(column: Column, twin: list[int], draw: random.Random) -> None:
    assert len(column) == len(twin) and list(column) == twin
    for _ in range(9):
        begin, end, step = (draw.choice([None, draw.randrange(-60, 60)]) for _ in range(3))
        assert column[begin:end].tolist() == twin[begin:end]
        assert column[begin : end : step or None].tolist() == twin[begin : end : step or None]
    for index in (0, -1, len(twin) - 1, -len(twin)) if twin else ():
        assert column[index] == twin[index]
    for index in (len(twin), -len(twin) - 1):
        with pytest.raises(IndexError):
            column[index]
    assert column.mapped().tolist() == twin


@pytest.mark.parametrize("kind", ["b", "B", "i", "q"])
def test_a_column_is_the_list_of_its_numbers(kind: str, tmp_path: Path) -> None:
    draw = random.Random(kind)
    for count in (0, 1, 40):
        column, twin = filled(kind, draw, count)
        assert_same(column, twin, draw)
        assert_same(pickle.loads(pickle.dumps(column)), twin, draw)
        column.save(tmp_path / "c.npy")
        assert_same(Column.saved(tmp_path / "c.npy", kind), twin, draw)
        with pytest.raises(ValueError, match="kind"):
            Column.saved(tmp_path / "c.npy", "h")
    assert not list((tmp_path / "cache").rglob("*")) or (tmp_path / "cache").is_dir()


def test_what_is_on_disk_has_no_name_and_goes(most_in_memory: int, tmp_path: Path) -> None:
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    column, _ = filled("q", random.Random(1), 60)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not before or (len(list(Path("/proc/self/fd").iterdir())) > before) == (most_in_memory < 60 * 8)
    del column
    gc.collect()
    assert not before or len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_ends_too_early_is_said(tmp_path: Path) -> None:
    column = Column("q")
    column.extend(range(100))
    column.save(tmp_path / "c.npy")
    os.truncate(tmp_path / "c.npy", 300)
    with pytest.raises(OSError, match="ends after 300 of"):
        list(Column.saved(tmp_path / "c.npy", "q"))


def test_a_folder_that_cannot_be_written_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    column, twin = filled("i", random.Random(2), 60)
    assert list(column) == twin


def test_a_fork_reads_what_was_written_while_others_read_too() -> None:
    spool = Spool(range(1000))
    children: list[tuple[int, int]] = []
    for number in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            draw = random.Random(number)
            right = all(spool[place] == place for place in (draw.randrange(1000) for _ in range(500)))
            os.write(writing, b"y" if right else b"n")
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    assert list(spool) == list(range(1000))
    for child, reading in children:
        assert os.read(reading, 1) == b"y"
        os.close(reading)
        os.waitpid(child, 0)


OBJECTS: list[Any] = [
    None,
    "é\U0001f600",
    Example(origin="a:1", messages=({"role": "user", "content": "x"},), unlearned=frozenset({0})),
    {"a": [1, 2.5, None]},
    b"",
]


def test_a_spool_is_the_list_of_its_objects(tmp_path: Path) -> None:
    objects = OBJECTS * 7
    spool = Spool(objects)
    assert list(spool) == objects and len(spool) == 35 and spool[3:17:5] == objects[3:17:5]
    assert [spool[index] for index in range(-35, 35)] == objects * 2
    for index in (35, -36):
        with pytest.raises(IndexError):
            spool[index]
    assert list(pickle.loads(pickle.dumps(spool))) == objects
    assert list(Spool[int]()) == []


def test_texts_of_any_characters(tmp_path: Path) -> None:
    names = ["a:1", "", "é\n", "\udcff:2", "\0"] * 5
    spool = texts(names)
    spool.save(tmp_path / "names")
    again = texts()
    again.open_saved(tmp_path / "names")
    assert list(again) == list(spool) == names


def test_a_row_that_noted_what_is_read_of_it_becomes_a_plain_table() -> None:
    row = Noted({"a": Noted({"b": 1}), "c": [Noted({"d": 2})]})
    (plain,) = Spool([row])
    assert plain == {"a": {"b": 1}, "c": [{"d": 2}]}
    assert {type(plain), type(plain["a"]), type(plain["c"][0])} == {dict}
