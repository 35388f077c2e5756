"""What can be looked at of a recipe that is not valid: all but what is wrong with it.

So `validate` says in one go what is wrong with the recipe, with the files that it names, and with its rows. Nothing
runs by what is salvaged. What is wrong is taken out, or replaced where a recipe cannot be without it, until the rest is
valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import reduce
from itertools import count, islice
from operator import getitem
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fttool.contracts.recipe import FORMAT_VERSION
from fttool.errors import PluginError, RecipeError
from fttool.plain import is_array, is_table
from fttool.plugins import Plugins
from fttool.recipe.closed import named_plugins, recipe_type
from fttool.recipe.explaining import without_tags
from fttool.recipe.loaded import Loaded
from fttool.recipe.overrides import Key, RawRecipe, read_raw
from fttool.recipe.reading import plugins_listed, task_defaults

PASSES = 10
"""Of taking out: what is wrong inside a table shows only once the table's own keys are right."""
_ROWS = [{"path": "-"}]
NEEDED: Mapping[Key, Any] = {
    ("recipe",): FORMAT_VERSION,
    ("model",): {"source": "-"},
    ("model", "source"): "-",
    ("data",): {"train": _ROWS},
    ("data", "train"): _ROWS,
}
"""What no recipe can be without, and what stands there meanwhile."""


@dataclass(frozen=True)
class Rest:
    """A recipe that was valid, or what is left of one."""

    loaded: Loaded
    """Its `where` says where keys stand in the recipe as it was given."""
    wrong: frozenset[Key] = frozenset()
    """The keys that were taken out."""
    original: Callable[[Key], Key] = lambda key: key
    """Key of `loaded` → key of the recipe as it was given: entries of lists may have moved up."""

    def stands(self, key: Key) -> bool:
        """True where neither this key nor a table around it is wrong."""
        given = self.original(key)
        return not any(given[: len(wrong_key)] == wrong_key for wrong_key in self.wrong)

    def unharmed(self, key: Key) -> bool:
        """True where nothing inside is wrong either."""
        given = self.original(key)
        return self.stands(key) and not any(wrong_key[: len(given)] == given for wrong_key in self.wrong)


def salvage(path: Path, overrides: Sequence[str] = (), plugins: Plugins | None = None) -> Rest | None:
    """What can be looked at of a recipe that `load` refuses; None where that is nothing."""
    installed = plugins or Plugins.discover()
    try:
        raw = read_raw(path, overrides, lambda read: task_defaults(read, installed))
    except RecipeError:
        return None
    available = installed.without(plugins_listed(raw.data, "disable"))
    named = list(_loadable(available, named_plugins(raw.data)))
    kind, left = recipe_type(lambda family: available.family(family, named)), _Left(raw)
    for _ in range(PASSES):
        try:
            recipe = kind.model_validate(left.data)
        except ValidationError as invalid:
            left.take_out(invalid)
        except (Exception, SystemExit):  # of a plugin's validator; `load` has said so
            return None
        else:
            loaded = Loaded(recipe, available, path, raw.document.text, left.where, tuple(overrides))
            return Rest(loaded, frozenset(left.wrong), left.original)
    return None


def _loadable(plugins: Plugins, prefixes: Iterable[str]) -> Iterable[str]:
    for prefix in sorted(prefixes):
        with suppress(PluginError):  # `load` has said so
            plugins.strategies_of(prefix)
            yield prefix


@dataclass
class _Left:
    """A raw recipe, less what is wrong with it."""

    raw: RawRecipe
    wrong: set[Key] = field(default_factory=set[Key])
    """In the recipe as it was given."""
    gone: set[Key] = field(default_factory=set[Key])
    """Entries of its lists that were taken out."""

    def __post_init__(self) -> None:
        self.data: Any = deepcopy(self.raw.data)

    def original(self, key: Key) -> Key:
        """The key in the recipe as it was given."""
        found: Key = ()
        for part in key:
            if isinstance(part, int):
                left = (index for index in count() if (*found, index) not in self.gone)
                found = (*found, next(islice(left, part, None)))
            else:
                found = (*found, part)
        return found

    def where(self, key: Key) -> str:
        """Where a key stands in the recipe as it was given."""
        return self.raw.where(self.original(key))

    def take_out(self, invalid: ValidationError) -> None:
        """Take out each key with an error, and what lacks a key that it needs."""
        keys: set[Key] = set()
        for error in invalid.errors(include_url=False):
            key = without_tags(self.data, error["loc"])
            keys.add(key[:-1] if error["type"] == "missing" and key not in NEEDED else key)
        self.wrong |= set(map(self.original, keys))
        for key in sorted(keys, key=_from_the_end, reverse=True):
            self._remove(key)

    def _remove(self, key: Key) -> None:
        """Take out a key, or the value around it: a string may stand for a table."""
        while len(key) > 1 and not _holds_more(_at(self.data, key[:-1])):
            key = key[:-1]
        if not key:  # the recipe as a whole: nothing is left then
            return
        around, part = _at(self.data, key[:-1]), key[-1]
        if key in NEEDED:
            around[part] = deepcopy(NEEDED[key])
        elif isinstance(part, int):
            self.gone.add(self.original(key))
            del around[part]
        else:
            around.pop(part, None)


def _at(data: Any, key: Key) -> Any:
    """What stands at a key; None for nothing."""
    try:
        return reduce(getitem, key, data)
    except (LookupError, TypeError):
        return None


def _holds_more(value: Any) -> bool:
    return is_table(value) or is_array(value)


def _from_the_end(key: Key) -> list[int]:
    """By which the later entries of a list come after the earlier ones."""
    return [part if isinstance(part, int) else 0 for part in key]
