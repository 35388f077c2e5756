"""What is installed, for people: every strategy with a line, and every plugin that cannot be used, with the reason."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from textwrap import shorten

from fttool.contracts import FAMILIES
from fttool.contracts.strategy import Strategy
from fttool.errors import PluginError, did_you_mean
from fttool.plugins import Plugins, Status

LONGEST = 110
"""Characters of what a list says of a strategy."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of `fttool plugins`: a strategy, or a plugin that brings none because it is broken or switched off."""

    id: str | None
    """The strategy's; None for a plugin that brings none."""
    family: str | None
    """The strategy's."""
    plugin: str
    """Name of the entry point that it comes from."""
    distribution: str
    """Package of that entry point."""
    version: str
    """Of the package."""
    status: Status
    """Whether the plugin can be used."""
    error: str | None
    """Why it cannot."""
    about: str | None = None
    """What the strategy does, in the first sentence of its docstring."""


def listed(plugins: Plugins) -> list[Listed]:
    """Every strategy of every plugin, and every plugin that brings none, with the reason; imports them all."""
    rows: list[Listed] = []
    for entry in plugins.entries:
        status, error, strategies = entry.status, entry.error, ()
        if status == "installed":
            try:
                strategies = plugins.strategies_of(entry.name)
            except PluginError as broken:
                status, error = "broken", broken.problems[0].message
        of_plugin = (entry.name, entry.distribution, entry.version, status, error or None)
        rows += [Listed(kind.id(), kind.family, *of_plugin, about=_about(kind)) for kind in strategies]
        if not strategies:
            rows.append(Listed(None, None, *of_plugin))
    order = {family: place for place, family in enumerate(FAMILIES)}
    return sorted(rows, key=lambda row: (order.get(row.family or "", 99), "." in (row.id or "."), row.id or ""))


def of_family(plugins: Plugins, family: str) -> list[tuple[Listed, type[Strategy]]]:
    """The strategies of one family, of every plugin that can be loaded."""
    rows = [row for row in listed(plugins) if row.family == family and row.id]
    return [
        (row, next(kind for kind in plugins.strategies_of(row.plugin) if (kind.family, kind.id()) == (family, row.id)))
        for row in rows
    ]


def installed(plugins: Plugins, family: str) -> tuple[list[type[Strategy]], dict[str, str]]:
    """The strategies of a family that every installed plugin brings, built-in ones first; imports all plugins.

    Beside them the plugins that cannot be loaded, by name, with the reason.
    """
    kinds, broken = list(plugins.family(family)), dict[str, str]()
    for name in (entry.name for entry in plugins.entries if not entry.ours and entry.status == "installed"):
        try:
            kinds += [kind for kind in plugins.strategies_of(name) if kind.family == family]
        except PluginError as fault:
            broken[name] = fault.problems[0].message
    return kinds, broken


def find(plugins: Plugins, wanted: str) -> type[Strategy]:
    """The strategy `id` or `family.id`; an ambiguous or unknown one is a `PluginError`."""
    loadable = [row for row in listed(plugins) if row.id]
    matches = [row for row in loadable if wanted in (row.id, f"{row.family}.{row.id}")]
    if not matches:
        known = [str(row.id) for row in loadable]
        raise PluginError(f"no strategy is called '{wanted}'", hint=did_you_mean(wanted, known))
    if len(matches) > 1:
        choices = " or ".join(f"{row.family}.{row.id}" for row in matches)
        raise PluginError(f"'{wanted}' exists in several families", hint=f"use {choices}")
    row = matches[0]
    return next(s for s in plugins.strategies_of(row.plugin) if s.family == row.family and s.id() == row.id)


def _about(strategy: type[Strategy]) -> str:
    paragraph = " ".join(inspect.cleandoc(strategy.__doc__ or "").partition("\n\n")[0].split())
    return shorten(re.split(r"\. (?=[A-Z`])", paragraph, maxsplit=1)[0].rstrip(".:"), LONGEST, placeholder=" …")
