"""The modules beside the pages, which write the reference and help to build the site; they are no part of a package."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

with pytest.MonkeyPatch.context() as patched:  # `python docs/reference.py` finds the modules beside it in the same way
    patched.syspath_prepend(Path(__file__).parents[2] / "docs")
    patched.setattr(sys, "dont_write_bytecode", True)
    api_page, reference, screens, site_links = map(import_module, ("api_page", "reference", "screens", "site_links"))
