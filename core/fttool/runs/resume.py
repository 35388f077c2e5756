"""Resuming is exact, so it is refused where the recipe or the rows are not the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tomli
from pydantic import BaseModel

from fttool.contracts.strategy import to_steps
from fttool.contracts.update import Schedule
from fttool.errors import PluginError, Problem, UsageError, gist
from fttool.events import CodeChanged, Event, LibraryChanged
from fttool.plain import is_table
from fttool.recipe.loaded import Loaded
from fttool.rundir import checkpoints
from fttool.rundir.code import code_changes
from fttool.rundir.record import Record, resolved
from fttool.training.rates import factor_of, shared_updates

FREE = (
    "advice",
    "tracking",
    "checkpoints.dtype",
    "checkpoints.every",
    "checkpoints.keep",
    "checkpoints.keep_stable",
    "evaluation.every",
    "model.template_difference",
    "run.micro_batch",
    "run.log_every",
    "run.workers",
    "run.name",
    "run.output",
    "run.folder",
    "plugins.observe",
    "sharding",
)
"""What may differ: none of it changes what is learned, and a run directory may be renamed.

An update's rows are decided by `run.global_batch`, which the resolved recipe always has, and neither by the number of
processes nor by how many rows go through the model at once.
"""
LENGTH = ("run.max_steps", "run.epochs")
"""What may grow where the updates up to a checkpoint do not depend on the run's length."""
PATIENCE = "evaluation.early_stopping"
"""What may grow or be left out: the updates are the same ones, and there may be more of them."""
BRANCH = ("run.name", "run.max_steps", "run.epochs", "schedule")
"""What may differ in a run that branches off another one; its rates up to there are compared one by one."""


AGAIN = "set it back, or start a new run: --set run.name=…"


class _LockedPlugin(BaseModel):
    name: str
    distribution: str
    version: str


class _LockedCode(BaseModel):
    version: str
    sha256: str
    files: dict[str, str]


class _LockedFile(BaseModel):
    table: str


class _Lock(BaseModel):
    """What is read of `lock.json` here, to tell a damaged one."""

    python: str
    packages: dict[str, str | None]
    plugins: list[_LockedPlugin]
    code: dict[str, _LockedCode]
    files: list[_LockedFile]
    model: dict[str, str]


@dataclass(frozen=True, slots=True)
class Longer:
    """A run that was begun with another length."""

    was: int
    """Updates."""
    now: int
    shared: int
    """How many of the first updates have the same rates in both."""


def refuse_differences(record: Record, loaded: Loaded, lock: Mapping[str, Any], steps_per_epoch: int) -> Longer | None:
    """Raise `UsageError` listing every difference that would make the resumed run another one.

    Another version of a plugin whose strategies the recipe uses is a `PluginError`. Returns what a longer run has in
    common with the one so far, None for a run of the same length.
    """
    before, locked = _begun_with(record)
    now = tomli.loads(resolved(loaded))
    longer = _longer(before, now, loaded, steps_per_epoch)
    _refuse(_not_resumed(record), _reason(record, loaded, longer, before), before, now, locked, lock)
    refuse_other_plugins(locked, lock, loaded)
    return longer


def refuse_another_recipe(record: Record, loaded: Loaded) -> None:
    """Raise `UsageError` for what differs in the recipe and rules resuming out, whatever rows and model turn out to be.

    How long the run is, `refuse_differences` judges: it may take the rows to know.
    """
    before, _ = _begun_with(record)
    now = tomli.loads(resolved(loaded))
    known = all("max_steps" in recipe_data.get("run", {}) for recipe_data in (before, now))
    reason = _reason(record, loaded, _longer(before, now, loaded, 0) if known else None, before)
    problems = list(_recipe_problems(reason, before, now, free=("model.source.revision",)))
    if problems:
        raise UsageError([Problem(_not_resumed(record)), *problems])


def _not_resumed(record: Record) -> str:
    return f"'{record.path}' cannot be resumed with this recipe:"


def _reason(record: Record, loaded: Loaded, longer: Longer | None, before: Mapping[str, Any]) -> Callable[[str], str]:
    """What gives the reason why a key must not differ in a resumed run; empty where it may."""

    def reason(key: str) -> str:
        if key in LENGTH:
            why = _why_not_longer(longer, loaded, checkpoints.steps(record.checkpoints))
            return why and f"{why}; {_instead(record)}"
        if key == PATIENCE:
            return _why_not_less_patient(before, loaded)
        return "" if _stands_in(key, FREE) else AGAIN

    return reason


def _instead(record: Record) -> str:
    """What can be done where a run cannot be made as long as somebody wants it."""
    model = record.model
    first = "" if model.is_dir() else "resume it with its own length first, then "
    return f"{first}begin a new run with its model: --set run.name=… --set model.source={model}"


def refuse_another_start(record: Record, loaded: Loaded, lock: Mapping[str, Any], steps: int) -> None:
    """Raise where a run cannot branch off that of `record` after `steps` updates, which it would have to share."""
    before, locked = _begun_with(record)

    def reason(key: str) -> str:
        if key in LENGTH:
            return _bound_to_length(loaded)
        return "" if _stands_in(key, (*FREE, *BRANCH)) else "a run that branches off begins with the same recipe"

    head = f"no run can branch off '{record.path}' after {steps} updates:"
    _refuse(head, reason, before, tomli.loads(resolved(loaded)), locked, lock)
    refuse_other_plugins(locked, lock, loaded)


def _refuse(
    head: str,
    reason: Callable[[str], str],
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    locked: Mapping[str, Any],
    lock: Mapping[str, Any],
) -> None:
    """Raise where keys of the recipe differ for which `reason` has one, or the rows or the model are others."""
    problems = list(
        _recipe_problems(reason, before, now, free=("model.source.revision",) if "commit" in locked["model"] else ())
    )
    rows_before, rows_now = row_hashes(locked), row_hashes(lock)
    for source in sorted(rows_before.keys() | rows_now.keys()):
        if rows_before.get(source) != rows_now.get(source):
            problems.append(Problem(f"the rows of {source} have changed", hint="resuming needs the same rows"))
    if weight_files(locked["model"]) != weight_files(lock["model"]):
        commit = locked["model"].get("commit")
        hint = (
            f"resuming needs commit {commit}: set it as model.source.revision"
            if commit
            else "resuming needs the same files"
        )
        problems.append(Problem("the model or its tokenizer has changed", hint=hint))
    if problems:
        raise UsageError([Problem(head), *problems])


def _recipe_problems(
    reason: Callable[[str], str], before: Mapping[str, Any], now: Mapping[str, Any], free: Iterable[str]
) -> Iterable[Problem]:
    """A problem for each key that differs and is not `free`, where there is a reason against it."""
    for key, old, new in _differences(before, now):
        if key not in free and (why := reason(key)):
            yield Problem(f"{key} was {_shown(old)}, is {_shown(new)}", hint=why, key=tuple(key.split(".")))


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


def software_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Event]:
    """What of the software is not as it was when a run was begun, from two locks."""
    libraries = [LibraryChanged(text=sentence) for sentence in library_changes(before, now)]
    return [*libraries, *(CodeChanged(text=sentence) for sentence in code_changes(before["code"], now["code"]))]


def refuse_other_plugins(before: Mapping[str, Any], now: Mapping[str, Any], loaded: Loaded) -> None:
    """Raise `PluginError` where, from two locks, a strategy of the recipe is of another version: it may compute
    something else. What only watches may change.
    """
    installed = {plugin["name"]: f"{plugin['distribution']} {plugin['version']}" for plugin in now["plugins"]}
    problems: list[Problem] = []
    for plugin in before["plugins"]:
        name, distribution, version = plugin["name"], plugin["distribution"], plugin["version"]
        places = [place for place, strategy in loaded.recipe.strategies() if strategy.id().startswith(f"{name}.")]
        if places and installed[name] != f"{distribution} {version}":
            message = f"this run was begun with {distribution} {version}, and {installed[name]} is installed"
            hint = f"pip install {distribution}=={version}, or start a new run: --set run.name=…"
            problems.append(Problem(message, hint=hint, key=places[0]))
    if problems:
        raise PluginError(problems)


def _stands_in(key: str, free: Iterable[str]) -> bool:
    return any(key == free_key or key.startswith(f"{free_key}.") for free_key in free)


def _longer(before: Mapping[str, Any], now: Mapping[str, Any], loaded: Loaded, steps_per_epoch: int) -> Longer | None:
    """The two lengths and what they share; None for the same length."""
    runs = [recipe_data.get("run", {}) for recipe_data in (before, now)]
    was, is_now = (run.get("max_steps") or run.get("epochs", 1) * steps_per_epoch for run in runs)
    if was == is_now:
        return None
    if before.get("schedule") != now.get("schedule"):  # refused for that
        return Longer(was, is_now, shared=min(was, is_now))
    return Longer(was, is_now, _shared(loaded, was, is_now))


def _shared(loaded: Loaded, length: int, other_length: int, schedule: Schedule | None = None) -> int:
    """First updates with the same rates in runs of two lengths."""
    factor, other = (factor_of(loaded, total, schedule) for total in (length, other_length))
    return shared_updates(factor, other, min(length, other_length))


def _bound_to_length(loaded: Loaded) -> str:
    """Words for a freezing that would have trained something else in a run of another length; empty for others."""
    freezing = loaded.recipe.freezing
    return "" if freezing.extendable else f"what freezing '{freezing.id()}' trains depends on the run's length"


def _why_not_longer(longer: Longer | None, loaded: Loaded, steps: list[int]) -> str:
    """Why a run with checkpoints of these steps cannot be made as long as the recipe says; empty where it can."""
    schedule, bound = loaded.recipe.schedule, _bound_to_length(loaded)
    if longer is None:
        return ""
    if longer.now < longer.was:
        return "a resumed run can only be made longer"
    if bound:
        return bound
    oldest = min(steps, default=0)
    if oldest <= longer.shared:
        return ""
    warmup = getattr(schedule, "warmup", 0)
    if 0 < warmup < 1:
        fixed = schedule.model_copy(update={"warmup": float(to_steps(warmup, longer.was))})
        if oldest <= _shared(loaded, longer.was, longer.now, fixed):
            return (
                f"the warmup of schedule '{schedule.id()}' is a share of the run, and would be longer too; "
                "a run begun with schedule.warmup in steps can be made longer"
            )
    reason = f"the rates of schedule '{schedule.id()}' depend on the run's length"
    if longer.shared < 2:
        return reason
    return (
        f"{reason}: those of the first {longer.shared} updates do not, but the oldest checkpoint has step {oldest}; "
        "checkpoints.keep_stable = 1 keeps an earlier one"
    )


def _why_not_less_patient(before: Mapping[str, Any], loaded: Loaded) -> str:
    """Why a run cannot stop as early as the recipe says now; empty where it stops no earlier than it did."""
    was, now = before.get("evaluation", {}).get("early_stopping"), loaded.recipe.evaluation.early_stopping
    later = now is None or (was is not None and now > was)
    return "" if later else "a resumed run can only stop later than it would have: raise it, or leave it out"


def _differences(before: Any, now: Any, key: str = "") -> Iterable[tuple[str, Any, Any]]:
    if is_table(before) and is_table(now):
        for name in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield key, before, now


def row_hashes(lock: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of the files of rows, by their table in the recipe; of other sources of rows their fingerprints."""
    return {entry["table"]: entry.get("sha256", entry.get("fingerprint")) for entry in lock["files"]}


def weight_files(origin: Mapping[str, str]) -> dict[str, str]:
    """Hashes of the files that model and tokenizer were loaded from, wherever they lie now, or the hub's commit."""
    hashed = ("sha256:", "bytes:")
    return {name: value for name, value in origin.items() if name == "commit" or value.startswith(hashed)}


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
