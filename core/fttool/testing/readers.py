"""What holds for readers."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from fttool.contracts.rows import ReaderContext, RowSource
from fttool.errors import DataError
from fttool.testing.contract import Contract


class ReaderContract(Contract):
    """A reader: rows of JSON's values, each with its place; `DataError` for what is broken, and nothing else."""

    rows: ClassVar[Sequence[Mapping[str, Any]]]
    """The rows that `write` writes."""

    def write(self, folder: Path) -> Path:
        """Write `rows` into a file or folder in `folder` as others would, and return its path."""
        raise NotImplementedError

    @override
    def context(self) -> ReaderContext:
        return ReaderContext()

    @override
    def outcome(self, built: RowSource) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return [row for _, row in built(self.write(Path(folder)))]

    def test_rows_come_in_order_with_their_places(self, instance: Any, tmp_path: Path) -> None:
        """Each once, the same each time, of values that JSON has; their origins begin with the path."""
        path = self.write(tmp_path)
        read = list(instance.build(self.context())(path))
        assert [row for _, row in read] == list(self.rows)
        assert json.loads(json.dumps([row for _, row in read], allow_nan=False)) == [dict(row) for row in self.rows]
        assert all(origin.startswith(str(path)) for origin, _ in read)
        assert list(instance.build(self.context())(path)) == read

    def test_reading_may_end_early(self, instance: Any, tmp_path: Path) -> None:
        """After the first row, as a look at the first rows does."""
        rows = instance.build(self.context())(self.write(tmp_path))
        assert next(rows)[1] == self.rows[0]
        rows.close()

    def test_a_path_that_leads_nowhere_is_refused(self, instance: Any, tmp_path: Path) -> None:
        """With a `DataError` that names it, while the rows are asked for."""
        with pytest.raises(DataError, match="nowhere"):
            list(instance.build(self.context())(tmp_path / "nowhere"))

    def test_whatever_stands_in_a_file_is_read_or_refused(self, instance: Any, tmp_path: Path) -> None:
        """Cut off, or with some bytes changed: rows or a `DataError`, not another exception."""
        path = self.write(tmp_path)
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        draw = random.Random(17)
        for file in files:
            whole = file.read_bytes()
            for _ in range(20):
                damaged = bytearray(whole[: draw.randrange(len(whole) + 1)] if draw.random() < 0.3 else whole)
                for _ in range(draw.randrange(4) if damaged else 0):
                    damaged[draw.randrange(len(damaged))] = draw.randrange(256)
                file.write_bytes(damaged)
                try:
                    for _, row in instance.build(self.context())(path):
                        json.dumps(row)
                except DataError as refused:
                    assert str(path) in str(refused), "the error does not say where"
            file.write_bytes(whole)
