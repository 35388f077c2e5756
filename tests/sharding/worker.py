"""Run every recipe in a folder, one after the other, in this process: `python worker.py FOLDER [--resume]`.

Or under a launcher. Starting a process costs seconds, a cell of the matrix less than one. What a cell raises is written
beside its recipe; where it is no word to a user, the others are not run.
"""

import sys
import traceback
from pathlib import Path

from fttool.errors import FttoolError
from fttool.recipe.reading import load
from fttool.runs.run import run
from fttool.runs.screen import Screen
from fttool.training.world import World


def main(folder: Path, *, resume: bool) -> None:
    for file in sorted(folder.glob("*.toml")):
        try:
            run(load(file), Screen(), resume=resume)
        except FttoolError as error:
            if World.here().first:
                file.with_suffix(".error").write_text(str(error))
        except Exception:
            file.with_suffix(".error").write_text(traceback.format_exc())
            raise


main(Path(sys.argv[1]), resume="--resume" in sys.argv)
