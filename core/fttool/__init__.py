"""fttool: fine-tune language models from a validated recipe in which every strategy is a plugin.

    from fttool import generate, load, prepare, run

What they do is in `scripting.py`; each is imported once it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fttool.errors import FttoolError
    from fttool.scripting import Finished, generate, load, prepare, run

_HOME = {
    "Finished": "fttool.scripting",
    "FttoolError": "fttool.errors",
    "generate": "fttool.scripting",
    "load": "fttool.scripting",
    "prepare": "fttool.scripting",
    "run": "fttool.scripting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


__all__ = ["Finished", "FttoolError", "generate", "load", "prepare", "run"]
