"""Verbs of plugins, from the entry-point group `fttool.commands.v1`.

The entry point's name is the verb; what it loads is called with the remaining arguments and returns an exit code. As
with strategies, a name that two distributions claim belongs to neither until one is uninstalled, and what core brings
itself keeps its name.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from textwrap import shorten

from fttool.disk import told
from fttool.errors import FttoolError, PluginError, gist

COMMANDS_GROUP = "fttool.commands.v1"


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as metadata declares it, not yet imported."""

    points: tuple[EntryPoint, ...]
    """One for each distribution that claims the name; more than one is a clash."""

    @property
    def name(self) -> str:
        """What one types."""
        return self.points[0].name

    @property
    def clash(self) -> str:
        """Who claims the name; empty where only one does."""
        return (
            f"{' and '.join(map(owner, self.points))} both provide the command '{self.name}'" if self.points[1:] else ""
        )


def owner(point: EntryPoint) -> str:
    """`fttool-acme 1.0`."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def installed(core: Container[str]) -> dict[str, Verb]:
    """The verbs of plugins by name, sorted; without those that a verb of `core` hides."""
    return {name: verb for name, verb in claimed().items() if name not in core}


def claimed() -> dict[str, Verb]:
    """Every verb that a distribution brings, by name, sorted; those that nobody gets too."""
    claims: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=COMMANDS_GROUP):  # a path may be listed twice
        claims.setdefault(point.name, {})[point.dist.name if point.dist else ""] = point
    return {name: Verb(tuple(entry for _, entry in sorted(claims[name].items()))) for name in sorted(claims)}


def call(verb: Verb, words: Sequence[str]) -> int:
    """Run it; it may exit by itself, as argparse does, but not while it is imported."""
    if verb.clash:
        from fttool.plugins import OURS

        others = " or ".join(point.dist.name for point in verb.points if point.dist and point.dist.name != OURS)
        raise PluginError(verb.clash, hint=f"pip uninstall {others}, whichever you do not need")
    (point,) = verb.points
    who = f"command '{verb.name}' of {owner(point)}"
    try:
        command = point.load()
    except (Exception, SystemExit) as fault:
        raise PluginError(f"the {who} cannot be imported: {gist(fault)}", hint="update or uninstall it") from fault
    try:
        with told():
            return int(command(list(words)))
    except (FttoolError, BrokenPipeError):
        raise
    except Exception as fault:
        raise PluginError(
            f"the {who} raised {gist(fault)}", hint="tell its authors; --debug shows the traceback"
        ) from fault


def summary(verb: Verb) -> str:
    """A verb in one line: the first of its module's docstring, which is read without importing it; else its owner."""
    import ast

    if verb.clash:
        return "unusable: two distributions provide it (fttool plugins)"
    (point,) = verb.points
    try:
        file = _source(point.module)
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file else None
    except (OSError, ValueError, SyntaxError):  # `fttool VERB` will say what is wrong with it
        docstring = None
    if not docstring:
        return f"from {point.dist.name if point.dist else 'a plugin'}"
    line = docstring.splitlines()[0].rstrip(".")
    return shorten(line[0].lower() + line[1:], 120, placeholder=" …")


def _source(module: str) -> Path | None:
    """The file of a module, found as `import` would find it, without running the packages around it."""
    name, around, file = "", None, None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = next(filter(None, (finder.find_spec(name, around) for finder in sys.meta_path)), None)
        if spec is None:
            return None
        around, file = spec.submodule_search_locations, spec.origin
    return Path(file) if file else None
