"""The module that writes the reference pages, which is no part of a package."""

import importlib.util
from pathlib import Path
from types import ModuleType


def _loaded() -> ModuleType:
    file = Path(__file__).parents[2] / "docs" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _loaded()
