"""Which code a run is made of: hashes of the files of fttool and of the plugins that its recipe uses.

A version says little of code that is being worked on: an editable install keeps its version while its files change, and
so does an installed one that somebody mends by hand.

What belongs to a distribution is told by its entry points: the packages and modules that they name are found as an
import would find them, and none is imported. So an editable install, whose own list of files (RECORD) names no code,
has the hashes of a copy that is installed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, all_suffixes
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fttool.disk import sha256
from fttool.plugins import Entry

SHOWN = 5
"""Files that a sentence names, of each kind of change."""


def code_of(entries: Iterable[Entry]) -> dict[str, Any]:
    """What `lock.json` notes of the code behind plugins: by distribution the `version`, `files`, and one `sha256`.

    `files` has the SHA-256 of each file by its path as an import sees it (`fttool_acme/curve.py`); `sha256` is over all
    of them. Nothing is noted of an object that a test gives as a plugin.
    """
    distributions = {entry.distribution: entry.made_of for entry in entries if entry.made_of is not None}
    return {name: {"version": made_of.version, **_hashed(made_of)} for name, made_of in sorted(distributions.items())}


def code_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence for each distribution whose code differs under one version, from two locks' `code`."""
    return [
        f"the code of {name} {was['version']} has changed under the same version ({_difference(was, now[name])}): "
        "results may differ"
        for name, was in before.items()
        if name in now and now[name]["version"] == was["version"] and now[name]["sha256"] != was["sha256"]
    ]


def _hashed(distribution: Distribution) -> dict[str, Any]:
    files = {path: sha256(file) for path, file in sorted(_files(distribution).items())}
    lines = "".join(f"{path}\0{content}\n" for path, content in files.items())
    return {"sha256": hashlib.sha256(lines.encode("utf-8")).hexdigest(), "files": files}


def _files(distribution: Distribution) -> dict[str, Path]:
    """Where each file of code lies, by its path as an import sees it."""
    owners = map(_owner, {point.module for point in distribution.entry_points})
    by_name = {owner.name: owner for owner in owners if owner is not None}
    return {path: file for owner in by_name.values() for path, file in _files_of(owner)}


def _owner(module: str) -> ModuleSpec | None:
    """The topmost package that holds a module, or the module itself; None where there is none.

    Namespaces are passed over: several distributions may share one. To look into one Python imports it, which runs
    nothing, since it has no code of its own.
    """
    parts, spec = module.split("."), None
    for end in range(1, len(parts) + 1):
        spec = find_spec(".".join(parts[:end]))
        if spec is None or spec.origin is not None:
            break
    return spec


def _files_of(owner: ModuleSpec) -> Iterator[tuple[str, Path]]:
    """The files of a package or module that Python can run; none of one that is built in or packed."""
    *above, name = owner.name.split(".")
    if owner.submodule_search_locations is None:
        file = Path(owner.origin or "")
        if file.is_file():
            yield "/".join([*above, file.name]), file
        return
    suffixes = tuple(all_suffixes())
    for top in map(Path, owner.submodule_search_locations):
        for folder, folders, names in os.walk(top):
            folders[:] = [entry for entry in folders if entry != "__pycache__" and not entry.startswith(".")]
            for file in (
                Path(folder, entry) for entry in names if entry.endswith(suffixes) and not entry.startswith(".")
            ):
                yield "/".join([*above, name, *file.relative_to(top).parts]), file


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The files that differ, by how they do."""
    old, new = was["files"], now["files"]
    kinds = {
        "changed": [path for path in old if path in new and old[path] != new[path]],
        "new": [path for path in new if path not in old],
        "gone": [path for path in old if path not in new],
    }
    return "; ".join(f"{kind}: {_named(paths)}" for kind, paths in kinds.items() if paths)


def _named(paths: Sequence[str]) -> str:
    more = [f"{len(paths) - SHOWN} more"] if len(paths) > SHOWN else []
    return ", ".join([*paths[:SHOWN], *more])
