"""Files that people name and write: why one cannot be opened, and which encoding it has instead of UTF-8.

Recipes and rows are read by different files of core; a wrong path or encoding deserves the same answer in
both: what is there instead, and what to type.
"""

from __future__ import annotations

import codecs
import difflib
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from fttool.errors import Problem

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def obstacle(path: Path) -> Problem | None:
    """Why `path` cannot be opened as a file; None where only its access rights may still stand in the way."""
    where = str(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _missing(path)
    except ValueError:  # what the operating system cannot even be asked
        return Problem("a path cannot hold a NUL character", repr(where), "remove it from the path")
    except OSError as error:
        return unreadable(path, error)
    if stat.S_ISDIR(mode):
        inside = _listing(path)
        hint = f"name a file in it: {_quoted(inside[:5])}" if inside else "it is empty; name a file"
        return Problem("this is a folder, not a file", where, hint)
    if not stat.S_ISREG(mode):
        return Problem("this is a pipe or a device, not a file", where, "write it to a file first")
    return None


def unreadable(path: Path, error: OSError) -> Problem:
    """What to say of a file that exists and that the operating system does not let us read."""
    hint = f"look at its rights: ls -l {shlex.quote(str(path))}"
    return Problem(f"cannot be read: {error.strerror or error}", str(path), hint)


def foreign_encoding(head: bytes) -> str | None:
    """The encoding that a file's first bytes give away (`UTF-16`, `UTF-32`); None where it may be UTF-8."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    pairs = head[: len(head) // 2 * 2][:64]
    if pairs and (not any(pairs[::2]) or not any(pairs[1::2])) and any(pairs):
        return "UTF-16LE" if pairs[0] else "UTF-16BE"  # ASCII in two bytes each, without a mark
    return None


def convert_hint(path: Path, encoding: str) -> str:
    """What to type to turn `path` into UTF-8."""
    new = path.with_name(f"{path.stem}.utf8{path.suffix}")
    old, new = shlex.quote(str(path)), shlex.quote(str(new))
    return f"save it as UTF-8: iconv -f {encoding} -t UTF-8 {old} > {new}"


def _missing(path: Path) -> Problem:
    """The first part of the path that does not exist, and the names most like it."""
    if path.is_symlink():
        return Problem(f"this is a link to '{path.readlink()}', which does not exist", str(path), "fix the link")
    part, parent = path, path.parent
    while parent != part and not parent.exists():
        part, parent = parent, parent.parent
    if not parent.is_dir():
        return Problem(f"'{parent}' is a file, not a folder", str(path))
    message = "no such file" if part == path else f"the folder '{part}' does not exist"
    names = _listing(parent)
    near = _near(part.name, names)
    if near:
        hint = f"did you mean {_quoted([str(parent / name) for name in near])}?"
    else:
        alike = [name for name in names if Path(name).suffix == part.suffix] or names
        hint = f"'{parent}' has {_quoted(alike[:5])}" if alike else f"'{parent}' is empty"
    return Problem(message, str(path), hint)


def _near(name: str, names: Sequence[str]) -> list[str]:
    """The names most like `name`, whatever their case, with or without their suffix."""
    spelled = {spelling.lower(): each for each in names for spelling in (Path(each).stem, each)}
    # 0.7: what has no more in common than a long suffix scores 0.63 (zzz.jsonl, rows.jsonl)
    near = difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=0.7)
    return list(dict.fromkeys(spelled[spelling] for spelling in near))


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:  # a folder we may pass through and not list: then there is nothing to suggest
        return []


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
