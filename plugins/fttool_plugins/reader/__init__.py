"""The reader room: how raw rows come out of files and folders."""

from fttool.api import Strategy, hookimpl
from fttool_plugins.reader.arrow import Arrow
from fttool_plugins.reader.auto import Auto
from fttool_plugins.reader.conll import Conll
from fttool_plugins.reader.csv_rows import Csv
from fttool_plugins.reader.folder import Folder
from fttool_plugins.reader.json_rows import Json
from fttool_plugins.reader.parquet import Parquet
from fttool_plugins.reader.text import TextLines


@hookimpl
def fttool_strategies() -> list[type[Strategy]]:
    """The strategies of this room."""
    return [Auto, Json, Csv, Parquet, Arrow, TextLines, Folder, Conll]
