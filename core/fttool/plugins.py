"""Find plugins, load the ones that are needed, and keep a broken one from hurting the rest.

Plugins are entry points of the group `fttool.v1`. Their metadata is enumerated without importing any of them; a plugin
is imported only when a recipe names it, behind a guard, and then registered with pluggy, which checks its hooks.
pluggy's own entry-point loader is not used: it silently skips a second plugin of the same name, does not sort, and lets
one failing import abort all.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import Distribution, EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

import pluggy

from fttool import hookspecs
from fttool.contracts import FAMILIES
from fttool.contracts.strategy import Strategy
from fttool.errors import PluginError, Problem, did_you_mean, gist

GROUP = "fttool.v1"
OURS = "fttool"

Status: TypeAlias = Literal["installed", "disabled", "clash", "other-major", "broken"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One plugin as its distribution's metadata declares it, not yet imported."""

    name: str
    """The entry point's name: the prefix of its ids, or the family's name for a built-in room."""
    distribution: str
    version: str
    load: Callable[[], object]
    """Imports the plugin; may raise anything."""
    status: Status = "installed"
    error: str = ""
    made_of: Distribution | None = field(default=None, compare=False, repr=False)
    """What is installed; None for an object that a test gives."""

    @property
    def ours(self) -> bool:
        """True for a built-in room, whose ids are bare."""
        return self.distribution == OURS

    def __str__(self) -> str:
        return f"'{self.name}' of {self.distribution} {self.version}"


class _Imported(NamedTuple):
    module: object
    hooks: pluggy.PluginManager
    """That knows this plugin alone."""


@dataclass
class Plugins:
    """The installed plugins, loaded one by one as they are asked for."""

    entries: tuple[Entry, ...]
    _loaded: dict[str, tuple[type[Strategy], ...]] = field(default_factory=dict[str, Any], init=False, repr=False)
    _imported: dict[str, _Imported] = field(default_factory=dict[str, Any], init=False, repr=False)

    @classmethod
    def discover(cls) -> Plugins:
        """Everything that is installed, by metadata alone."""
        installed = entry_points()
        points = [(group, point) for group in _groups(installed.groups) for point in installed.select(group=group)]
        made_of = {id(point.dist): point.dist for _, point in points if point.dist is not None}
        # Once for each: to ask a distribution its name parses a file of metadata.
        identities = {key: (distribution.name, distribution.version) for key, distribution in made_of.items()}
        return cls(_without_clashes([_entry(point, group, identities) for group, point in points]))

    @classmethod
    def of(cls, **plugins: object) -> Plugins:
        """The built-in rooms and the given modules or objects by entry-point name, whatever is installed: for tests."""
        ours = [entry for entry in cls.discover().entries if entry.ours]
        given = [
            Entry(name, f"fttool-{name}", "0", load=lambda plugin=plugin: plugin) for name, plugin in plugins.items()
        ]
        return cls(_without_clashes([*ours, *given]))

    def without(self, names: Iterable[str]) -> Plugins:
        """The same with the named plugins switched off (a recipe's `[plugins] disable`)."""
        switched_off = set(names)
        return Plugins(
            tuple(
                replace(entry, status="disabled", error="switched off by the recipe's [plugins] disable")
                if entry.name in switched_off
                else entry
                for entry in self.entries
            )
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of third-party plugins that could be loaded: the possible prefixes of ids."""
        return tuple(sorted({entry.name for entry in self.entries if not entry.ours}))

    def entry(self, name: str) -> Entry:
        """The one plugin of that name; a clash between distributions, or none at all, is a `PluginError`."""
        of_name = [entry for entry in self.entries if entry.name == name]
        usable = [entry for entry in of_name if entry.status == "installed"]
        if usable:
            return usable[0]
        if of_name:
            raise PluginError(f"plugin {of_name[0]} cannot be used: {of_name[0].error}")
        hint = did_you_mean(name, self.names) or "no third-party plugin is installed"
        raise PluginError(
            f"no installed plugin is named '{name}'",
            hint=f"{hint}; install the package whose ids start with '{name}.'",
        )

    def module(self, name: str) -> object:
        """Import the plugin `name`, or one of fttool's own that watch; a `PluginError` names its distribution when that
        fails, and the nearest of all names where there is no such plugin.
        """
        names = [entry.name for entry in self.entries]
        if name not in names and (near := get_close_matches(name, names, n=1)):
            raise PluginError(f"no installed plugin is named '{name}'", hint=f"did you mean '{near[0]}'?")
        return self._import(self.entry(name)).module

    def _import(self, entry: Entry) -> _Imported:
        if entry.name not in self._imported:
            module = _import(entry)
            self._imported[entry.name] = _Imported(module, _checked(entry, module))
        return self._imported[entry.name]

    def strategies_of(self, name: str) -> tuple[type[Strategy], ...]:
        """The strategies that the plugin `name` brings, imported now if they were not before."""
        if name not in self._loaded:
            entry = self.entry(name)
            self._loaded[name] = _strategies(entry, self._import(entry).hooks)
        return self._loaded[name]

    def family(self, family: str, prefixes: Iterable[str] = ()) -> tuple[type[Strategy], ...]:
        """The built-in strategies of a family and those that the plugins named by `prefixes` add to it."""
        strategies = list(self.strategies_of(family)) if self._has(family) else []
        for prefix in sorted(set(prefixes)):
            strategies += [strategy for strategy in self.strategies_of(prefix) if strategy.family == family]
        return tuple(strategies)

    def _has(self, name: str) -> bool:
        return any(entry.name == name and entry.status == "installed" for entry in self.entries)


def _groups(groups: Iterable[str]) -> list[str]:
    return sorted(group for group in groups if re.fullmatch(r"fttool\.v\d+", group))


def _entry(point: EntryPoint, group: str, identities: Mapping[int, tuple[str, str]]) -> Entry:
    distribution, version = identities.get(id(point.dist), ("unknown", "unknown"))
    entry = Entry(point.name, distribution, version, point.load, made_of=point.dist)
    if group != GROUP:
        error = f"it is made for {group}; this fttool reads {GROUP}"
        return replace(entry, status="other-major", error=error)
    return entry


def _without_clashes(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Mark entries that two distributions give one name; a built-in room keeps its name, whoever else wants it."""
    unique = {(entry.name, entry.distribution, entry.status): entry for entry in entries}  # a path may be listed twice
    result: list[Entry] = []
    for entry in unique.values():
        rivals = [
            other
            for other in unique.values()
            if other.name == entry.name
            and other.distribution != entry.distribution
            and other.status == entry.status == "installed"
        ]
        if rivals and not entry.ours:
            names = " and ".join(sorted({entry.distribution, *(rival.distribution for rival in rivals)}))
            entry = replace(entry, status="clash", error=f"{names} both call a plugin '{entry.name}'; uninstall one")
        result.append(entry)
    return tuple(sorted(result, key=lambda entry: (not entry.ours, entry.name, entry.distribution)))


def _import(entry: Entry) -> object:
    try:
        return entry.load()
    except (Exception, SystemExit) as fault:  # whatever a stranger's import does, the others go on
        raise PluginError(
            f"plugin {entry} cannot be imported: {type(fault).__name__}: {fault}",
            hint=f'pip install --upgrade {entry.distribution}, or disable it: [plugins] disable = ["{entry.name}"]',
        ) from fault


def manager() -> pluggy.PluginManager:
    """A pluggy manager that knows fttool's hooks and no plugin yet."""
    registry = pluggy.PluginManager(hookspecs.PROJECT)
    registry.add_hookspecs(hookspecs)
    return registry


def _checked(entry: Entry, module: object) -> pluggy.PluginManager:
    """The plugin's hooks; refuses one that does not exist, has arguments that do not, or lacks its `@hookimpl`."""
    checker = manager()
    known = {name for name in vars(hookspecs) if name.startswith("fttool_")}
    members = vars(module) if isinstance(module, ModuleType) else {name: getattr(module, name) for name in dir(module)}
    try:
        checker.register(module, entry.name)
        checker.check_pending()
    except pluggy.PluginValidationError as fault:
        unknown = [name for name in members if name.startswith("fttool_") and name not in known]
        hint = did_you_mean(unknown[0], sorted(known)) if unknown else ""
        raise PluginError(f"plugin {entry} has a hook that fttool does not know: {fault}", hint=hint) from fault
    registered = {caller.name for caller in checker.get_hookcallers(module) or ()}
    for name, member in members.items():
        if name.startswith("fttool_") and callable(member) and name not in registered:
            hint = "decorate it with @fttool.api.hookimpl" if name in known else did_you_mean(name, sorted(known))
            raise PluginError(f"plugin {entry} has a function {name} that is not a hook", hint=hint)
    return checker


def _strategies(entry: Entry, hooks: pluggy.PluginManager) -> tuple[type[Strategy], ...]:
    classes: list[Any] = []
    for implementation in hooks.hook.fttool_strategies.get_hookimpls():
        try:
            brought: Any = implementation.function()
            classes += list(brought)
        except (Exception, SystemExit) as fault:
            raise PluginError(f"plugin {entry}: fttool_strategies raised {type(fault).__name__}: {fault}") from fault
    wrong = [f"plugin {entry}: {what}" for kind in classes for what in _wrong_with(entry, kind, classes)]
    if wrong:
        raise PluginError(Problem(what) for what in dict.fromkeys(wrong))
    return tuple(classes)


def _wrong_with(entry: Entry, kind: Any, siblings: Sequence[Any]) -> Iterable[str]:
    """What keeps a class from being a strategy of this plugin."""
    if not (isinstance(kind, type) and issubclass(kind, Strategy)):
        yield f"{kind!r} is not a Strategy class"
        return
    family = str(getattr(kind, "family", ""))
    above = kind.__mro__[1:]
    if [base for base in above if base in FAMILIES.values()] != [FAMILIES.get(family)] or any(map(_has_id, above)):
        yield f"{kind.__name__} must derive from one family's base class (Schedule, Freezing …) and no other strategy"
        return
    name = kind.model_fields.get("name")
    if name is None or get_origin(name.annotation) is not Literal or get_args(name.annotation) != (name.default,):
        yield f'{kind.__name__} has no id: give it `name: Literal["…"] = "…"`, the same text twice'
        return
    if not entry.ours:  # a class is built at its first use; a stranger's now, so that what is wrong is said of it alone
        try:
            kind.model_rebuild()
        except Exception as fault:
            yield f"{kind.__name__} has options that pydantic cannot check: {gist(fault)}"
            return
    if inspect.isabstract(kind):
        yield f"{kind.__name__} has no {' and no '.join(sorted(kind.__abstractmethods__))}"
    if entry.ours and "." in name.default:
        yield f"{kind.__name__}: the id '{name.default}' of a built-in must be bare"
    if not entry.ours and not re.fullmatch(rf"{re.escape(entry.name)}\.[a-z0-9][a-z0-9-]*", name.default):
        yield f"{kind.__name__}: the id '{name.default}' must be '{entry.name}.' and lower-case letters, digits or '-'"
    if [_family_and_id(sibling) for sibling in siblings].count((family, name.default)) > 1:
        yield f"two strategies of family {family} have the id '{name.default}'"


def _has_id(kind: type) -> bool:
    return issubclass(kind, Strategy) and "name" in kind.model_fields


def _family_and_id(kind: Any) -> tuple[Any, Any]:
    """Of anything at all that a plugin calls a strategy."""
    name = getattr(kind, "model_fields", {}).get("name")
    return getattr(kind, "family", None), getattr(name, "default", None)
