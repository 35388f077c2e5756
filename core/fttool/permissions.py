"""Permissions of what is written: those that the user's umask leaves, whichever library wrote it.

Some write through a temporary file, which is its owner's alone (0600), and rename it: a model in a shared folder could
then be read by nobody else.
"""

from __future__ import annotations

import os
from pathlib import Path


def apply_umask(path: Path) -> None:
    """To a file, or to a folder and all that is in it; a link is left alone, and so is what it leads to."""
    mask = os.umask(0o077)  # it can be read only by being set; meanwhile others must not get more than theirs
    os.umask(mask)
    for entry in (path, *path.rglob("*")):
        if not entry.is_symlink():
            entry.chmod((0o777 if entry.is_dir() else 0o666) & ~mask)
