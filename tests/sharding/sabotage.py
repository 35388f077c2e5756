"""Put in a process's way from outside what no product code has a hook for: it raises, hangs, or is no more.

Python imports a module called `sitecustomize` before anything else; this makes one that waits for an update.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = """
import os

if os.environ.get("RANK") == "{rank}":
    from fttool.training.world import World

    most, calls = World.most, []

    def sabotaged(self, *arguments):
        calls.append(0)
        if len(calls) == {update}:
            try:
                os.close(os.open({once!r}, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass  # it has been done, by an earlier process
            else:
                {deed}
        return most(self, *arguments)

    World.most = sabotaged
"""


def sabotage(folder: Path, deed: str, *, rank: int = 1, update: int = 4) -> dict[str, str]:
    """The environment in which the process of a rank does a deed, a Python statement, once in the run."""
    place = folder / "sabotage"
    place.mkdir(exist_ok=True)
    source = SOURCE.format(rank=rank, update=update, once=str(place / "done"), deed=deed)
    (place / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": str(place)}
