"""Put in a process's way from outside what no product code has a hook for: it raises, hangs, or is no more.

Python imports a module called `sitecustomize` before anything else; this makes one that waits for a call.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = """
import os

if os.environ.get("RANK") == "{rank}":
    from {module} import {owner} as owner

    untouched, calls = owner.{name}, []

    def sabotaged(*arguments, **options):
        calls.append(0)
        if len(calls) == {call}:
            try:
                os.close(os.open({once!r}, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass  # it has been done, by an earlier process
            else:
                {deed}
        return untouched(*arguments, **options)

    owner.{name} = sabotaged
"""


UPDATE = ("fttool.world", "World", "all_reduce_max")
"""Called once per update."""
PASS = ("fttool.training", "passes", "in_one")
"""Called once per micro-batch, of evaluations too."""


def sabotage(
    folder: Path, deed: str, *, rank: int = 1, update: int = 4, at: tuple[str, str, str] = UPDATE
) -> dict[str, str]:
    """The environment in which the process of a rank does a deed, a Python statement, once in the run."""
    place = folder / "sabotage"
    place.mkdir(exist_ok=True)
    module, owner, name = at
    done = str(place / "done")
    source = SOURCE.format(rank=rank, call=update, once=done, deed=deed, module=module, owner=owner, name=name)
    (place / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": str(place)}
