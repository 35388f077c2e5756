"""`acme.sqlite`: rows out of a database in a file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fttool.api import DataError, RawRows, Reader, ReaderContext, RowSource, as_row, steady_file


class Sqlite(Reader):
    """An SQLite database, read with a query: each row of its result is a row, each of its columns one of the row's.

    The database is opened for reading only. A column without a value is left out of its row.
    """

    name: Literal["acme.sqlite"] = "acme.sqlite"
    suffixes: ClassVar[tuple[str, ...]] = (".sqlite", ".db")
    query: Annotated[str, Field(min_length=1)] = "SELECT * FROM rows ORDER BY rowid"
    """What to read. Say in which order: without ORDER BY the database may answer in any."""

    def build(self, ctx: ReaderContext) -> RowSource:
        """Yield the reader of one database; it raises `DataError` for what is not one, and for a query it refuses."""

        def rows(path: Path) -> RawRows:
            with steady_file(path):
                database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
                try:
                    found = database.execute(self.query)
                    columns = [column[0] for column in found.description or ()]
                    for number, values in enumerate(found, start=1):
                        yield f"{path}:{number}", as_row(dict(zip(columns, values, strict=True)))
                except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as fault:
                    raise DataError(f"SQLite says: {fault}", where=str(path), hint="look at the query") from None
                finally:
                    database.close()

        return rows
