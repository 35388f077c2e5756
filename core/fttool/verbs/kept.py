"""The rows of a recipe as a run prepares them, and the training files that they come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fttool.machine import quiet_libraries
from fttool.recipe.faults import explained
from fttool.recipe.loaded import Loaded
from fttool.watch.screen import choose

if TYPE_CHECKING:
    from fttool.contracts.rows import RawRows
    from fttool.rows.rows import Rows


def prepared_rows(loaded: Loaded, *, quiet: bool = False) -> Rows:
    """All rows of a recipe in tokens, with every one that is dropped; the model's weights are not loaded."""
    from fttool.rows.format_detection import settled
    from fttool.runs.stages.rows import READING, load_rows

    quiet_libraries(network=loaded.needs_network)
    screen = choose(quiet=quiet, as_json=False)
    with explained(loaded):
        screen.stage(READING)
        return load_rows(settled(loaded), track=screen.track)[2]


def raw_files(loaded: Loaded) -> Iterator[tuple[Path, RawRows]]:
    """The files and folders of the training datasets, each with its raw rows as they come: (origin, row).

    Raises:
        DataError: for a path that names nothing, and while the rows are read.
    """
    from fttool.rows.files.source import named_paths
    from fttool.rows.raw import raw_rows

    with explained(loaded):
        for table in loaded.recipe.data.train:
            for path in named_paths(loaded.folder, table.paths):
                yield path, raw_rows(loaded, table, [path])
