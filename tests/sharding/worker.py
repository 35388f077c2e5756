"""Run every recipe in a folder, one after the other, in this process: `python worker.py FOLDER`, or under a launcher.

Starting a process costs seconds, a cell of the matrix less than one. What a cell raises is written beside its recipe.
"""

import sys
from pathlib import Path

from fttool.errors import FttoolError
from fttool.recipe.reading import load
from fttool.runs.run import run
from fttool.runs.screen import Screen
from fttool.training.world import World


def main(folder: Path) -> None:
    for file in sorted(folder.glob("*.toml")):
        try:
            run(load(file), Screen())
        except FttoolError as error:
            if World.here().first:
                file.with_suffix(".error").write_text(str(error))
        except Exception:
            import traceback

            if World.here().first:
                file.with_suffix(".error").write_text(traceback.format_exc())


main(Path(sys.argv[1]))
