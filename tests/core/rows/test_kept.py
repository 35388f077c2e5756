"""Prepared rows that are kept: what is read back is what was written, or nothing."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest

from fttool.contracts.rows import Encoded, Example, Reason
from fttool.rows.gone import Gone
from fttool.rows.kept import FORMAT, keep, kept, read_manifest
from fttool.rows.rows import Rows
from fttool.rows.spooled import Spool
from fttool.rows.tokens import JoinedRows, TokenRows

CALL = {"name": "f", "arguments": {"x": [1, 2.5, None, True]}}
TURNS = ({"role": "user", "content": "é\u2028"}, {"role": "assistant", "tool_calls": [CALL]})
EXAMPLES = [
    Example(origin="a:1", messages=TURNS, completion_from=1, template={"tools": [CALL]}, unlearned=frozenset({1})),
    Example(origin="a:2", prompt="p", second="s", labels=("x", "y")),
    Example(origin="a:3", prompt="p q", words=((0, 1), (2, 3)), labels=("O", "B")),
    Example(origin="a:4", prompt="p", labels=()),
]


def token_rows(seed: int, *, classes: bool = False, words: bool = False) -> TokenRows:
    draw, rows = random.Random(seed), TokenRows()
    for number in range(30):
        ids = [draw.randrange(50_000) for _ in range(draw.randrange(1, 20))]
        labels = [-100, *(token if draw.random() < 0.5 else -100 for token in ids[1:])]
        named = ("a", "é") if number % 3 else None
        row = Encoded(ids, labels, remarks=("teaching nothing",) if number % 4 else ())
        if classes:
            row = Encoded(ids, labels, classes=named, token_types=[draw.randrange(2) for _ in ids])
        if words:
            row = Encoded([*ids, 1, 2], [*labels, 1, 2], classes=("O", "B"), words=[*(-1 for _ in ids), 0, 1])
        rows.append(row, f"rows.jsonl:{number}", number % 3)
    return rows


def whole() -> Rows:
    rows = Rows(train=token_rows(0), eval=token_rows(1, classes=True))
    rows.general = {"wiki": token_rows(2), "b": TokenRows()}
    rows.retention = {"held": token_rows(3, words=True)}
    rows.learned = JoinedRows([rows.train, *rows.general.values()])
    rows.train_sizes, rows.learned_sizes = [30], [30, 30, 0]
    rows.dropped, rows.truncated = Counter({"b": 2, "a": 3}), 4
    rows.eval_examples = Spool(EXAMPLES)
    rows.sampled = EXAMPLES[:1]
    rows.gone = Spool([Gone.of("rows", EXAMPLES[0], Reason("like another row", like="a:7"), "acme.filter")])
    rows.sources = [{"source": "a", "sha256": "0", "columns": {"read": {"messages": 3}}}]
    return rows


def parts(rows: Rows) -> list[TokenRows]:
    return [rows.train, rows.eval, *rows.general.values(), *rows.retention.values()]


def test_all_comes_back(tmp_path: Path) -> None:
    rows = whole()
    keep(rows, tmp_path)
    again = kept(tmp_path)
    assert again is not None
    for field in fields(Rows):
        was, now = getattr(rows, field.name), getattr(again, field.name)
        assert type(was) is type(now), field.name
        if isinstance(was, Spool):
            was, now = list(was), list(now)
        if field.name not in ("train", "eval", "general", "retention", "learned"):
            assert was == now, field.name
    assert list(again.dropped) == ["b", "a"]
    assert list(again.general) == ["wiki", "b"]
    for was, now in zip(parts(rows), parts(again), strict=True):
        assert list(now) == list(was) and list(now.origins) == list(was.origins) and now.lengths == was.lengths
        assert list(now.cut) == list(was.cut) and list(now.classes) == list(was.classes)
        assert (now.label_tokens, now.class_counts, now.remarks) == (was.label_tokens, was.class_counts, was.remarks)
        assert now.as_dataset()["input_ids"][:] == was.as_dataset()["input_ids"][:]
        assert all(type(token) is int for row in now for token in row.input_ids)
    assert list(again.learned) == list(rows.learned) and again.learned.lengths == rows.learned.lengths


def test_what_json_would_change_is_not_kept(tmp_path: Path) -> None:
    for odd in (date(2024, 5, 6), float("nan"), (1, 2), {1: "a"}, b"x"):
        example = Example(origin="a:1", messages=({"role": "user", "content": "a", "odd": odd},))
        for field, value in (("sampled", [example]), ("eval_examples", Spool([example]))):
            rows = whole()
            setattr(rows, field, value)
            with pytest.raises(ValueError, match="JSON"):
                keep(rows, tmp_path)
    assert kept(tmp_path) is None


def damage(folder: Path, draw: random.Random) -> None:
    file = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = bytearray(file.read_bytes())
    kind = draw.randrange(3)
    if kind == 0:
        file.unlink()
    elif kind == 1:
        file.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_damaged_is_not_taken(tmp_path: Path, seed: int) -> None:
    rows = whole()
    keep(rows, tmp_path)
    damage(tmp_path, random.Random(seed))
    assert kept(tmp_path) is None


def test_another_version_is_not_taken(tmp_path: Path) -> None:
    keep(whole(), tmp_path)
    changed = json.dumps({**read_manifest(tmp_path), "format": FORMAT + 1}).encode()
    (tmp_path / "rows.json").write_bytes(b"%08x\n" % zlib.crc32(changed) + changed)
    assert kept(tmp_path) is None
