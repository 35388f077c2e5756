"""From a recipe file to a valid `Recipe`, or to all of its problems, each with its line and column.

The steps: parse with places, apply `--set` overrides, fill in what the task brings, load the plugins that the ids name,
validate, then ask core's own rules and every strategy's `check` what cannot go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fttool.contracts import FAMILIES
from fttool.contracts.recipe import FORMAT_VERSION, Recipe
from fttool.contracts.task import Task
from fttool.errors import PluginError, Problem, RecipeError, gist
from fttool.plain import children, is_table
from fttool.plugins import Plugins
from fttool.recipe.closed import named_plugins, recipe_type
from fttool.recipe.explaining import explain
from fttool.recipe.faults import blamed
from fttool.recipe.loaded import Loaded
from fttool.recipe.overrides import Key, RawRecipe, read_raw
from fttool.recipe.rules import bent_values, contradictions
from fttool.recipe.secrets import hide_secrets, secrets


def load(
    path: Path,
    overrides: Sequence[str] = (),
    plugins: Plugins | None = None,
    data: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read and validate a recipe; raises `RecipeError` or `PluginError` with everything that is wrong.

    With `data` that is the recipe, and `path` says only where it would lie: its relative paths start there.
    """
    installed = plugins or Plugins.discover()
    raw = read_raw(path, overrides, lambda read: task_defaults(read, installed), data)
    _refuse_other_versions(raw)
    available = installed.without(plugins_listed(raw.data, "disable"))
    kind = _closed_type(raw, available)
    try:
        recipe = kind.model_validate(raw.data)
    except ValidationError as invalid:
        hidden = [replace(p, message=hide_secrets(p.message)) for p in explain(raw, invalid, kind)]
        raise RecipeError([*secrets(raw), *hidden]) from None
    except (Exception, SystemExit) as fault:  # pydantic hands on what a validator raises, but for ValueError
        prefixes = sorted(named_plugins(raw.data))
        if not prefixes:
            raise
        owners = " or ".join(str(available.entry(prefix)) for prefix in prefixes)
        where = raw.where(_place_of(raw.data, prefixes[0]))
        hint = "tell the plugin's authors; --debug shows the traceback"
        raise PluginError(f"a validator of the plugin {owners} raised {gist(fault)}", where=where, hint=hint) from fault
    loaded = Loaded(recipe, available, path, raw.document.text, raw.where, tuple(overrides), tuple(raw.dropped))
    with blamed(loaded):
        problems = [*secrets(raw), *bent_values(raw.data, recipe.model_dump()), *contradictions(recipe)]
        for place, strategy in recipe.strategies():
            problems += [p if p.key else replace(p, key=place) for p in strategy.check(recipe)]
        if problems:
            raise RecipeError(problems)
    return loaded


def task_defaults(data: Mapping[str, Any], plugins: Plugins) -> Mapping[str, Any]:
    """What the recipe's task fills in where the recipe is silent; nothing for a task that validation will refuse."""
    task = data.get("task")
    name = task.get("name") if is_table(task) else task
    prefix, dot, _ = name.partition(".") if isinstance(name, str) else ("", "", "")
    try:
        tasks = plugins.family("task", [prefix] if dot else [])
    except PluginError:
        return {}
    chosen = [candidate for candidate in tasks if issubclass(candidate, Task) and candidate.id() == name]
    return chosen[0].filled(task if is_table(task) else {}) if chosen else {}


def _refuse_other_versions(raw: RawRecipe) -> None:
    version = raw.data.get("recipe")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RecipeError(
            f"this recipe has format {version}; this fttool reads format {FORMAT_VERSION}",
            where=raw.where(("recipe",)),
            hint="pip install --upgrade fttool",
        )


def plugins_listed(data: Mapping[str, Any], key: str) -> list[str]:
    """A list of `[plugins]`, which may hold anything yet."""
    table = data.get("plugins")
    listed = table.get(key) if is_table(table) else None
    return [name for _, name in children(listed) if isinstance(name, str)]


def _observers(data: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The plugins that watch, with their place in the list; one that is disabled too is a contradiction of core's."""
    disabled = plugins_listed(data, "disable")
    return [(index, name) for index, name in enumerate(plugins_listed(data, "observe")) if name not in disabled]


def _closed_type(raw: RawRecipe, plugins: Plugins) -> type[Recipe]:
    """The recipe type over the built-ins and the plugins that this recipe names."""
    problems: list[Problem] = []
    named = sorted(named_plugins(raw.data))
    asked: list[tuple[Key, Callable[[str], object], str]] = [
        *((_place_of(raw.data, prefix), plugins.strategies_of, prefix) for prefix in named),
        *((("plugins", "observe", index), plugins.module, name) for index, name in _observers(raw.data)),
    ]
    for place, load_it, name in asked:
        try:
            load_it(name)
        except PluginError as error:
            error.locate(raw.where, place)
            problems += error.problems
    if problems:
        raise PluginError(problems)
    return recipe_type(lambda family: plugins.family(family, named) if _may_stand(raw.data, family) else ())


def _may_stand(data: Mapping[str, Any], family: str) -> bool:
    """False where a recipe has none of a list of strategies, such as filters: their room need not be imported."""
    place = FAMILIES[family].place
    return not (place.many and place.default is None) or data.get(place.table, []) not in ([], ())


def _place_of(data: Any, prefix: str, key: Key = ()) -> Key:
    """Where the first id with this prefix stands."""
    if isinstance(data, str) and data.startswith(f"{prefix}."):
        return key
    for name, value in children(data):
        place = _place_of(value, prefix, (*key, name))
        if place:
            return place
    return ()
