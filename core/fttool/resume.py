"""Resuming is exact, so it is refused where the recipe or the rows are not the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tomli
from pydantic import BaseModel

from fttool.errors import PluginError, Problem, UsageError, gist
from fttool.plain import is_table
from fttool.reading import Loaded
from fttool.record import Record, resolved

FREE = (
    "tracking",
    "checkpoints.every",
    "checkpoints.keep",
    "evaluation.every",
    "run.log_every",
    "run.workers",
    "run.output",
    "run.folder",
)
"""What may differ: none of it changes what is learned."""
LENGTH = ("run.max_steps", "run.epochs")
"""What may grow under a schedule whose earlier steps do not depend on the run's length."""


class _LockedPlugin(BaseModel):
    name: str
    distribution: str
    version: str


class _LockedFile(BaseModel):
    table: str


class _Lock(BaseModel):
    """What is read of `lock.json` here, to tell a damaged one."""

    python: str
    packages: dict[str, str | None]
    plugins: list[_LockedPlugin]
    files: list[_LockedFile]
    model: dict[str, str]


def refuse_differences(record: Record, loaded: Loaded, lock: Mapping[str, Any]) -> None:
    """Raise `UsageError` listing every difference that would make the resumed run another one.

    Another version of a plugin whose strategies the recipe uses is a `PluginError`.
    """
    before, locked = _begun_with(record)
    now = tomli.loads(resolved(loaded))
    problems = [
        Problem(f"{key} was {_shown(old)}, is {_shown(new)}", hint=_advice(key, loaded), key=tuple(key.split(".")))
        for key, old, new in _differences(before, now)
        if not (_allowed(key, old, new, loaded) or (key == "model.source.revision" and "commit" in locked["model"]))
    ]
    rows_before, rows_now = _hashes(locked), _hashes(lock)
    for source in sorted(rows_before.keys() | rows_now.keys()):
        if rows_before.get(source) != rows_now.get(source):
            problems.append(Problem(f"the rows of {source} have changed", hint="resuming needs the same rows"))
    if _weights(locked) != _weights(lock):
        commit = locked["model"].get("commit")
        hint = (
            f"resuming needs commit {commit}: set it as model.source.revision"
            if commit
            else "resuming needs the same files"
        )
        problems.append(Problem("the model or its tokenizer has changed", hint=hint))
    if problems:
        head = Problem(f"'{record.path}' cannot be resumed with this recipe:")
        raise UsageError([head, *problems])
    _refuse_other_plugins(locked, lock, loaded)


def _begun_with(record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe and the lock that the run was begun with; `UsageError` where a file is missing or damaged."""
    name = "recipe.resolved.toml"
    try:
        recipe = tomli.loads(record.resolved_recipe())
        if "recipe" not in recipe:
            raise ValueError("it holds no recipe")
        name = "lock.json"
        lock = record.lock()
        _Lock.model_validate(lock)
    except (OSError, ValueError) as fault:  # among them the errors of tomli, json and pydantic
        hint = "resuming needs it as the run wrote it; or start a new run: --set run.name=…"
        raise UsageError(f"'{record.path / name}' is missing or damaged: {gist(fault)}", hint=hint) from fault
    return recipe, lock


def library_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A sentence for each library of another version: the resumed run may then differ in the last bits."""
    versions = {"python": before["python"], **before["packages"]}
    present = {"python": now["python"], **now["packages"]}
    return [
        f"{name} was {version}, is {present.get(name)}: results may differ in the last bits"
        for name, version in versions.items()
        if present.get(name) != version
    ]


def _refuse_other_plugins(before: Mapping[str, Any], now: Mapping[str, Any], loaded: Loaded) -> None:
    """A strategy may compute something else in another version. What only watches may change."""
    installed = {plugin["name"]: f"{plugin['distribution']} {plugin['version']}" for plugin in now["plugins"]}
    problems: list[Problem] = []
    for plugin in before["plugins"]:
        name, distribution, version = plugin["name"], plugin["distribution"], plugin["version"]
        places = [place for place, one in loaded.recipe.strategies() if one.id().startswith(f"{name}.")]
        if places and installed[name] != f"{distribution} {version}":
            message = f"this run was begun with {distribution} {version}, and {installed[name]} is installed"
            hint = f"pip install {distribution}=={version}, or start a new run: --set run.name=…"
            problems.append(Problem(message, hint=hint, key=places[0]))
    if problems:
        raise PluginError(problems)


def _allowed(key: str, old: Any, new: Any, loaded: Loaded) -> bool:
    if any(key == free or key.startswith(f"{free}.") for free in FREE):
        return True
    longer = isinstance(old, int) and isinstance(new, int) and new > old
    return key in LENGTH and longer and loaded.recipe.schedule.extendable


def _advice(key: str, loaded: Loaded) -> str:
    if key not in LENGTH:
        return "set it back, or start a new run: --set run.name=…"
    schedule = loaded.recipe.schedule
    if schedule.extendable:
        return "a resumed run can only be made longer"
    if "warmup" in type(schedule).model_fields and schedule.model_copy(update={"warmup": 1.0}).extendable:
        return (
            f"the warmup of schedule '{schedule.id()}' is a share of the run, and would be longer too; "
            "a run begun with schedule.warmup in steps can be made longer"
        )
    return f"the rates of schedule '{schedule.id()}' depend on the run's length"


def _differences(before: Any, now: Any, key: str = "") -> Iterable[tuple[str, Any, Any]]:
    if is_table(before) and is_table(now):
        for name in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def _hashes(lock: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["table"]: entry.get("sha256", entry.get("fingerprint")) for entry in lock["files"]}


def _weights(lock: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files that model and tokenizer were loaded from, wherever they lie now, or the hub's commit."""
    hashed = ("sha256:", "bytes:")
    return {name: value for name, value in lock["model"].items() if name == "commit" or value.startswith(hashed)}


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
