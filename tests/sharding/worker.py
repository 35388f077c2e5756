"""Run every recipe in a folder, one after the other, in this process: `python worker.py FOLDER [--resume]`.

Or under a launcher. Starting a process costs seconds, a cell of the matrix less than one. What a cell raises is written
beside its recipe, by rank; where it is no word to a user, the others are not run. A process that hangs or crashes
says where it does, and ends.
"""

import faulthandler
import gc
import sys
import traceback
from pathlib import Path

from fttool.errors import FttoolError
from fttool.launch.worker import leave
from fttool.recipe.reading import load
from fttool.runs.run import run
from fttool.training.trainer import trainer_class  # noqa: F401 - with all that a run imports
from fttool.watch.screen import Screen
from fttool.world import World

SECONDS = 500
"""The longest that all cells together may take; alone they take about one minute."""


def main(folder: Path, *, resume: bool) -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    said = f".{World.here().rank}.error"
    gc.freeze()  # what is imported stays: each run collects garbage, and would go through all of it
    for file in sorted(folder.glob("*.toml")):
        try:
            run(load(file), Screen(), resume=resume)
        except FttoolError as error:
            file.with_suffix(said).write_text(str(error))
        except Exception:
            file.with_suffix(said).write_text(traceback.format_exc())
            raise
        gc.collect()  # engines of past runs end here, in all processes at once


main(Path(sys.argv[1]), resume="--resume" in sys.argv)
leave(0)
