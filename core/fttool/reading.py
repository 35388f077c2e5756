"""From a recipe file to a valid `Recipe`, or to all of its problems, each with its line and column.

The steps: parse with places, apply `--set` overrides, load the plugins that the ids name, validate, then ask core's own
rules and every strategy's `check` what cannot go together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fttool import toml
from fttool.errors import PluginError, Problem, RecipeError, did_you_mean, gist
from fttool.families import FAMILIES, Strategy
from fttool.faults import blamed
from fttool.plugins import Plugins
from fttool.recipe import FORMAT_VERSION, Recipe, named_plugins, recipe_type

Key = tuple[str | int, ...]

_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})\b")
_SECRET_KEY = re.compile(r"(^|_)(token|password|passwd|secret|api_?key)$", re.IGNORECASE)


@dataclass(frozen=True)
class Loaded:
    """A valid recipe and where it came from."""

    recipe: Recipe
    plugins: Plugins
    path: Path
    text: str
    """The file as given."""
    where: Callable[[Key], str]
    """Key → `file:line:column` of it or the nearest key around it, or `--set key` where an override wrote it."""
    dropped: tuple[str, ...] = ()
    """What `--set X.name=…` reset, one sentence each."""

    @property
    def folder(self) -> Path:
        """Relative paths in the recipe start here."""
        return self.path.parent

    @property
    def name(self) -> str:
        """The run's name."""
        return self.recipe.run.name or self.path.stem


@dataclass
class _Raw:
    """A recipe on its way to being valid: data, and where each key was written."""

    path: Path
    document: toml.Document
    data: dict[str, Any]
    overridden: dict[Key, str] = field(default_factory=dict[Key, str])
    dropped: list[str] = field(default_factory=list[str])

    def where(self, key: Key) -> str:
        """`file:line:column` of the nearest enclosing key, or `--set key` where an override wrote it."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.overridden:
                return f"--set {self.overridden[key[:end]]}"
        place = self.document.place(key)
        return f"{self.path}:{place.line}:{place.column}"


def load(path: Path, overrides: Sequence[str] = (), plugins: Plugins | None = None) -> Loaded:
    """Read and validate a recipe; raises `RecipeError` or `PluginError` with everything that is wrong."""
    document = toml.read(path)
    raw = _Raw(path, document, _copy(document.data))
    for override in overrides:
        _apply(raw, override)
    _refuse_other_versions(raw)
    available = (plugins or Plugins.discover()).without(_names(raw.data, "disable"))
    kind = _closed_type(raw, available)
    try:
        recipe = kind.model_validate(raw.data)
    except ValidationError as invalid:
        errors = [dict(error) for error in invalid.errors(include_url=False)]
        problems = [_problem(raw, error, kind) for error in errors if not _follows(error, errors)]
        hidden = [replace(p, message=_SECRET.sub("…", p.message)) for p in problems]
        raise RecipeError([*_secrets(raw), *hidden]) from None
    except (Exception, SystemExit) as fault:  # pydantic hands on what a validator raises, but for ValueError
        prefixes = sorted(named_plugins(raw.data))
        if not prefixes:
            raise
        owners = " or ".join(str(available.entry(prefix)) for prefix in prefixes)
        where = raw.where(_place_of(raw.data, prefixes[0]))
        hint = "tell the plugin's authors; --debug shows the traceback"
        raise PluginError(f"a validator of the plugin {owners} raised {gist(fault)}", where=where, hint=hint) from fault
    loaded = Loaded(recipe, available, path, document.text, raw.where, tuple(raw.dropped))
    with blamed(loaded):
        problems = [*_secrets(raw), *_bent(raw.data, recipe.model_dump()), *_contradictions(recipe)]
        for place, strategy in recipe.strategies():
            problems += [p if p.key else replace(p, key=place) for p in strategy.check(recipe)]
        if problems:
            raise RecipeError(problems)
    return loaded


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


# -- overrides -----------------------------------------------------------------------------------------------------


def _apply(raw: _Raw, override: str) -> None:
    """Apply one `key.path=value` of the command line."""
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)*", dotted):
        raise RecipeError(
            f"--set {override!r} is no override",
            hint="write --set key.path=value, e.g. --set schedule.name=wsd",
        )
    key: Key = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
    value = toml.parse_value(text)
    target: Any = raw.data
    for index, part in enumerate(key[:-1]):
        target = _step(raw, target, key[: index + 1], part, dotted)
    last = key[-1]
    if last == "name" and isinstance(target, dict) and len(key) > 1 and key[0] != "run":
        gone = [name for name in target if name != "name"]
        if gone and target.get("name") != value:
            options = ", ".join(f"{name} = {toml.format_value(target[name])}" for name in gone)
            raw.dropped.append(f"--set {dotted}={text} resets [{'.'.join(map(str, key[:-1]))}]; dropped: {options}")
        if target.get("name") != value:
            target.clear()
    if isinstance(target, list):
        if not isinstance(last, int) or last >= len(target):
            raise RecipeError(f"--set {dotted}: the list has {len(target)} entries", hint="count from 0")
        target[last] = value
    elif isinstance(target, dict):
        target[str(last)] = value
    else:
        raise RecipeError(f"--set {dotted}: {'.'.join(map(str, key[:-1]))} is a value, not a table")
    raw.overridden[key] = dotted


def _step(raw: _Raw, target: Any, key: Key, part: str | int, dotted: str) -> Any:
    """Descend one key, making tables on the way, a family's with its default strategy; a string becomes its table."""
    if isinstance(target, list):
        if not isinstance(part, int) or part >= len(target):
            raise RecipeError(f"--set {dotted}: the list has {len(target)} entries", hint="count from 0")
        container: Any = target
        index: Any = part
    elif isinstance(target, dict):
        default = next((family.default for family in FAMILIES if family.table == dotted.rpartition(".")[0]), None)
        if str(part) not in target:
            target[str(part)] = {"name": default} if default and len(key) == 1 else {}
        container, index = target, str(part)
    else:
        raise RecipeError(f"--set {dotted}: {'.'.join(map(str, key[:-1]))} is a value, not a table")
    if isinstance(container[index], str):
        container[index] = {"name": container[index]}
    return container[index]


# -- before validation ---------------------------------------------------------------------------------------------


def _refuse_other_versions(raw: _Raw) -> None:
    version = raw.data.get("recipe")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RecipeError(
            f"this recipe has format {version}; this fttool reads format {FORMAT_VERSION}",
            where=raw.where(("recipe",)),
            hint="pip install --upgrade fttool",
        )


def _names(data: Mapping[str, Any], key: str) -> list[str]:
    """A list of `[plugins]`, which may hold anything yet."""
    table = data.get("plugins")
    listed = table.get(key) if isinstance(table, Mapping) else None
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _observers(data: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The plugins that watch, with their place in the list; one that is disabled too is a contradiction of core's."""
    disabled = _names(data, "disable")
    return [(index, name) for index, name in enumerate(_names(data, "observe")) if name not in disabled]


def _closed_type(raw: _Raw, plugins: Plugins) -> type[Recipe]:
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
    return recipe_type(lambda family: plugins.family(family, named))


def _place_of(data: Any, prefix: str, key: Key = ()) -> Key:
    """Where the first id with this prefix stands."""
    if isinstance(data, str) and data.startswith(f"{prefix}."):
        return key
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        found = _place_of(value, prefix, (*key, name))
        if found:
            return found
    return ()


# -- problems ------------------------------------------------------------------------------------------------------


def _without_tags(data: Any, location: Sequence[str | int]) -> Key:
    """pydantic's error location without the union tags it inserts: (schedule, wsd, warmup) → (schedule, warmup)."""
    key: list[str | int] = []
    for part in location:
        if isinstance(data, Mapping):
            if part not in data and data.get("name") == part:
                continue
            data = data.get(str(part))
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, str):
            continue  # a string that stands for a strategy's table has no keys of its own
        key.append(part)
    return tuple(key)


def _follows(error: dict[str, Any], errors: Sequence[dict[str, Any]]) -> bool:
    """True for a list that counts as too short only because an entry of it is wrong."""
    inside = error["loc"]
    return error["type"] == "too_short" and any(
        other["loc"][: len(inside)] == inside for other in errors if other is not error
    )


def _problem(raw: _Raw, error: dict[str, Any], kind: type[Recipe]) -> Problem:
    """A pydantic error in words, located."""
    key = _without_tags(raw.data, error["loc"])
    name = ".".join(str(part) for part in key)
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return Problem(f"unknown key '{name}'", raw.where(key), _unknown_hint(kind, raw.data, key), key)
        case "missing":
            return Problem(f"'{name}' is missing", raw.where(key[:-1]), _missing_hint(key), key)
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
            wrong = str(context["tag"])
            hint = f"{did_you_mean(wrong, tags)}; `fttool plugins` lists them all"
            return Problem(f"unknown strategy '{wrong}' for {name}", raw.where((*key, "name")), hint, key)
        case "union_tag_not_found":
            return Problem(f"'{name}' does not say which strategy", raw.where(key), _missing_hint((*key, "name")), key)
        case "model_type" | "model_attributes_type":
            place = "{…}" if isinstance(key[-1], int) else f"[{name}]"
            return Problem(f"'{name}' must be a table", raw.where(key), f"write {place} with its keys", key)
        case "tuple_type":
            hint = f"tables stand under [[{name}]], values as {key[-1]} = […]"
            return Problem(f"'{name}' must be a list", raw.where(key), hint, key)
        case _:
            given = error.get("input")
            shown = f", got {toml.format_value(given)}" if isinstance(given, str | int | float | bool) else ""
            said = str(error["msg"]).removeprefix("Value error, ")
            message = f"{name}: {said[:1].lower()}{said[1:]}{shown}"
            hint = "" if error["type"] == "value_error" else _value_hint(kind, raw.data, key)  # it has its own words
            return Problem(message, raw.where(key), hint, key)


def _missing_hint(key: Key) -> str:
    if key == ("recipe",):
        return "begin the recipe with: recipe = 1"
    if key and key[-1] == "name":
        family = next((f for f in FAMILIES if f.table == ".".join(map(str, key[:-1]))), None)
        if family and family.default:
            return f'add: name = "{family.default}"'
    return "add it; `fttool schema` has all keys, `fttool init` an example"


def _value_hint(kind: type[Recipe], data: Any, key: Key) -> str:
    """What the option at `key` is, in the first sentence of its own words, and its default."""
    name = str(next(part for part in reversed(key) if isinstance(part, str)))
    table = key[: key.index(name)]
    for one in _chosen(_tables_at(kind, table), data, table):
        if name in one.model_fields:
            field = one.model_fields[name]
            text = " ".join((field.description or name).split()).partition(". ")[0].rstrip(".")
            usual = (
                ""
                if field.is_required() or field.default is None
                else f" (default: {toml.format_value(field.default)})"
            )
            return f"{name} is: {text[:1].lower()}{text[1:]}{usual}"
    return ""


def _unknown_hint(kind: type[Recipe], data: Any, key: Key) -> str:
    """The nearest key that may stand there, after the strategies that do have an option of this name."""
    word, tables = str(key[-1]), _tables_at(kind, key[:-1])
    chosen = _chosen(tables, data, key[:-1])
    owners = sorted({f"'{_id(table)}'" for table in tables if table not in chosen and word in table.model_fields})
    known = sorted({name for table in chosen for name in table.model_fields})
    near = did_you_mean(word, known)
    return f"that is an option of {', '.join(owners)}; {near}" if owners else near


def _tables_at(kind: type[Recipe], key: Key) -> list[type[BaseModel]]:
    """The tables and strategies that may stand at `key`."""

    def models(annotation: Any) -> Iterable[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for argument in getattr(annotation, "__args__", ()):
            yield from models(argument)

    tables: list[type[BaseModel]] = [kind]
    for part in key:
        if not isinstance(part, int):
            fields = [table.model_fields[part] for table in tables if part in table.model_fields]
            tables = [table for field in fields for table in models(field.annotation)]
    return tables


def _chosen(tables: list[type[BaseModel]], data: Any, key: Key) -> list[type[BaseModel]]:
    """Those of the tables that may stand at `key` that the data has chosen there: a strategy by its name."""
    for part in key:
        data = data[part]
    return [table for table in tables if _id(table) == data.get("name")] or tables


def _id(table: type[BaseModel]) -> Any:
    """The id of a strategy; None for a table."""
    return table.id() if issubclass(table, Strategy) else None


def _secrets(raw: _Raw) -> Iterable[Problem]:
    """Recipes hold no secrets: they are copied into every run directory."""
    hint = "take it out and set it in the environment (HF_TOKEN, WANDB_API_KEY …)"
    found = _walk(raw.data)
    for key, value in found:
        if _SECRET.search(value) or _SECRET_KEY.search(str(key[-1])):
            yield Problem(f"'{'.'.join(map(str, key))}' looks like a secret", raw.where(key), hint, key)


def _bent(given: Any, read: Any, key: Key = ()) -> Iterable[Problem]:
    """Values of another type that pydantic has bent to fit: `"5"` or `true` for a number, `1` for `true`."""
    if isinstance(given, dict) and isinstance(read, dict):
        for name in given.keys() & read.keys():
            yield from _bent(given[name], read[name], (*key, name))
    elif isinstance(given, list) and isinstance(read, tuple):
        for index, pair in enumerate(zip(given, read, strict=True)):
            yield from _bent(*pair, (*key, index))
    elif isinstance(read, bool) != isinstance(given, bool) or (
        isinstance(read, int | float) and isinstance(given, str)
    ):
        kind = "true or false" if isinstance(read, bool) else "a number"
        message = f"{'.'.join(map(str, key))} must be {kind}, got {toml.format_value(given)}"
        yield Problem(message, hint=f"write {toml.format_value(read)}", key=key)


def _walk(data: Any, key: Key = ()) -> Iterable[tuple[Key, str]]:
    if isinstance(data, str):
        yield key, data
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in items:
        yield from _walk(value, (*key, name))


def _contradictions(recipe: Recipe) -> Iterable[Problem]:
    """What core itself knows cannot go together."""
    run, evaluation = recipe.run, recipe.evaluation
    if run.epochs is not None and run.max_steps is not None:
        yield Problem("both run.epochs and run.max_steps are set", hint="keep one", key=("run", "max_steps"))
    per_pass = run.micro_batch * recipe.sharding.world_size
    if recipe.global_batch % per_pass:
        yield Problem(
            f"global_batch {recipe.global_batch} is no multiple of micro_batch × processes = {per_pass}",
            hint=f"e.g. {max(per_pass, recipe.global_batch // per_pass * per_pass)}",
            key=("run", "global_batch"),
        )
    wanted = [key for key in ("every", "early_stopping", "best") if getattr(evaluation, key) is not None]
    if wanted and not recipe.has_eval:
        yield Problem(
            f"evaluation.{wanted[0]} is set, but there are no evaluation rows",
            hint="set data.eval_share = 0.05, or add [[data.eval]]",
            key=("evaluation", wanted[0]),
        )
    names = [metric.id() for metric in evaluation.metrics]
    if evaluation.best is not None and evaluation.best not in names:
        hint = did_you_mean(evaluation.best, names)
        yield Problem(
            f"evaluation.best '{evaluation.best}' is no metric of this run",
            hint=hint,
            key=("evaluation", "best"),
        )
    if evaluation.early_stopping is not None and evaluation.every is None:
        yield Problem(
            "early_stopping needs evaluations during the run",
            hint="set evaluation.every",
            key=("evaluation", "early_stopping"),
        )
    for part, datasets in (("train", recipe.data.train), ("eval", recipe.data.eval)):
        for index, rows in enumerate(datasets):
            if (rows.path is None) == (rows.hub is None):
                yield Problem(
                    f"data.{part} needs one of path and hub",
                    hint='path = "rows.jsonl"',
                    key=("data", part, index),
                )
    for index, name in enumerate(recipe.plugins.observe):
        if name in recipe.plugins.disable:
            yield Problem(
                f"plugin '{name}' is both observed and disabled",
                key=("plugins", "observe", index),
                hint="take it out of one of the two lists",
            )
