"""Parquet and Arrow: what JSON lines of the same rows say, whatever the schema does to them."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import feather, parquet

from fttool.errors import DataError
from fttool_plugins.reader.parquet import Parquet

from .reading import numbered

CALL = {"id": "c1", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}
ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "é\u2028"}, {"role": "assistant", "tool_calls": [CALL]}]},
    {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "NA"}], "weight": 0.5},
    {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "d"}], "tags": ["x", "y"]},
]
"""Rows of unlike shape: one schema gives each of them the fields of all."""


def stream(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS: dict[str, Any] = {
    "rows.parquet": lambda path, table: parquet.write_table(table, path, row_group_size=2),
    "rows.feather": lambda path, table: feather.write_feather(table, str(path)),
    "stream.arrow": stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_unlike_shape_come_back_as_they_went_in(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, pa.Table.from_pylist(ROWS * 700, schema=_schema()))
    rows = list(numbered(tmp_path / name))
    assert [row for _, row in rows] == ROWS * 700
    assert [line for line, _ in rows] == list(range(1, 2101))


def _schema() -> pa.Schema:
    """The one that fits all of `ROWS`."""
    call = pa.struct({"id": pa.string(), "function": pa.struct({"name": pa.string(), "arguments": pa.string()})})
    turn = pa.struct({"role": pa.string(), "content": pa.string(), "tool_calls": pa.list_(call)})
    return pa.schema({"messages": pa.list_(turn), "weight": pa.float64(), "tags": pa.list_(pa.string())})


def test_what_datasets_saves_is_read_and_several_are_told_apart(tmp_path: Path) -> None:
    dataset = Dataset.from_list([{"text": str(n)} for n in range(5)])
    dataset.save_to_disk(tmp_path / "saved", num_shards=2)
    found = [(row["text"], Path(origin).name) for origin, row in _read(tmp_path / "saved")]
    assert [text for text, _ in found] == list("01234")
    assert {place.partition("-")[0] for _, place in found} == {"data"}
    DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "both")
    with pytest.raises(DataError, match=r"holds several datasets\n +name one of them: .*both/test.*both/train"):
        list(_read(tmp_path / "both"))
    assert len(list(_read(tmp_path / "both" / "train"))) == 5


def _read(path: Path) -> Any:
    from fttool.rows.files.source import read_rows

    return read_rows(path)


def test_values_that_json_does_not_have(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    row = {"day": date(2024, 5, 6), "at": moment, "sum": Decimal("1.50"), "raw": b"\0\xff"}
    row["took"] = timedelta(seconds=90)
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    ((_, read),) = numbered(tmp_path / "rows.parquet")
    assert read == {
        "day": "2024-05-06",
        "at": "2024-05-06T07:08:09+00:00",
        "sum": "1.50",
        "raw": "AP8=",
        "took": "0:01:30",
    }
    json.dumps(read)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("seed", range(8))
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, name: str, seed: int) -> None:
    draw = random.Random(seed)
    rows = [{"text": "".join(draw.choices("abcdef ", k=40))} for _ in range(3000)]
    WRITERS[name](tmp_path / name, pa.Table.from_pylist(rows))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: draw.randrange(16, len(whole) - 9)])
    with pytest.raises(DataError) as refused:
        list(numbered(tmp_path / name))
    assert str(tmp_path / name) in str(refused.value)


def test_what_is_not_parquet_or_empty(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b'{"text": "a"}\n')
    assert [row for _, row in numbered(tmp_path / "rows.parquet")] == [{"text": "a"}]  # by its bytes
    with pytest.raises(DataError, match="not a whole Parquet file"):
        list(numbered(tmp_path / "rows.parquet", Parquet()))
    parquet.write_table(pa.Table.from_pylist([], schema=pa.schema({"text": pa.string()})), tmp_path / "none.parquet")
    with pytest.raises(DataError, match="the file has no rows"):
        list(numbered(tmp_path / "none.parquet"))
