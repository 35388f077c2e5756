"""Run directories side by side: what differs in how they were made, what was gained, what was forgotten, what it cost.

Read from `summary.json`, `recipe.resolved.toml` and `lock.json` alone, so that runs of any task, of other versions, and
runs that never finished can stand beside each other; what a run lacks is left empty, and said.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from fttool.api import Problem, UsageError, did_you_mean
from fttool.verbs import children, gist, is_table

FILES = ("recipe.resolved.toml", "lock.json", "summary.json", "events.jsonl")
"""A folder with none of these is not a run directory."""
NO_MATTER = ("recipe", "run.name", "run.output", "run.folder")
"""Keys of a recipe that say where a run lies, not how it was made."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric before the first update and of the final weights."""

    before: float | None
    after: float | None
    better_is: str | None
    """`lower`, `higher`, or None where the run does not say."""

    @property
    def gain(self) -> float | None:
        """How much better it got; below 0 where it got worse, None where that is not known."""
        if self.before is None or self.after is None or self.better_is is None:
            return None
        rise = self.after - self.before
        return rise if self.better_is == "higher" else -rise


@dataclass(kw_only=True)
class PastRun:
    """What a run directory tells."""

    path: Path
    label: str = ""
    """A short name that no other of the compared runs has."""
    status: str = "unfinished"
    """As in `summary.json`; `unfinished` where there is none yet, `damaged` where a file cannot be read."""
    problems: list[str] = field(default_factory=list[str])
    """What is missing or broken, in sentences."""
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    """`summary.json` as it stands; empty where there is none that can be read."""
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    """Every option by its key, e.g. `schedule.name`."""
    surroundings: dict[str, str] = field(default_factory=dict[str, str])
    """What else a run depends on: the content of its rows and of its model, libraries, hardware."""
    steps: int | None = None
    total_steps: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: float | None = None
    gained: dict[str, Measured] = field(default_factory=dict[str, Measured])
    """By metric, on the evaluation rows."""
    retained: dict[str, dict[str, Measured]] = field(default_factory=dict[str, dict[str, Measured]])
    """By retention dataset and metric: what is left of what the model knew."""

    def lost(self, metric: str) -> float | None:
        """How much worse a metric got on the retention rows: the mean over their datasets; below 0 where it got better.

        None where it was not measured, or not on all of them.
        """
        gains = [measured[metric].gain if metric in measured else None for measured in self.retained.values()]
        known = [gain for gain in gains if gain is not None]
        return -sum(known) / len(known) if known and len(known) == len(gains) else None


def read_runs(paths: Sequence[Path]) -> list[PastRun]:
    """The runs in the order given; raises `UsageError` naming every path that is not a run directory."""
    problems = [problem for path in paths for problem in _no_run(path)]
    if problems:
        raise UsageError(problems)
    runs = [_read(path) for path in paths]
    for run, label in zip(runs, labels(paths), strict=True):
        run.label = label
    return runs


def labels(paths: Sequence[Path]) -> list[str]:
    """For each path the fewest of its last parts that tell it from the others; numbered where two paths are one."""
    parts = [path.resolve().parts for path in paths]
    texts: list[str] = []
    for part in parts:
        others = [other for other in parts if other != part]
        ends = (part[-count:] for count in range(1, len(part) + 1))
        shortest = next((end for end in ends if all(other[-len(end) :] != end for other in others)), part)
        again = parts[: len(texts)].count(part)
        texts.append("/".join(shortest) + (f" ({again + 1})" if again else ""))
    return texts


def differences(runs: Sequence[PastRun]) -> dict[str, list[Any]]:
    """Every key that the runs do not agree on, with the value of each run; None where a run has none.

    Runs whose recipe could not be read are left out of the comparison, and have None.
    """
    values: dict[str, list[Any]] = {}
    tables: list[Callable[[PastRun], Mapping[str, Any]]] = [lambda run: run.recipe, lambda run: run.surroundings]
    for table in tables:
        known = [table(run) for run in runs if table(run)]
        for key in dict.fromkeys(key for data in known for key in data):
            if any(data.get(key) != known[0].get(key) for data in known):
                values[key] = [table(run).get(key) for run in runs]
    return values


# -- reading -------------------------------------------------------------------------------------------------------


def _no_run(path: Path) -> Iterable[Problem]:
    """Why a path is not a run directory; nothing where it is one."""
    if not path.exists():
        folder = path.absolute().parent
        known = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
        yield Problem(f"the run directory '{path}' does not exist", hint=did_you_mean(path.name, known))
    elif not path.is_dir():
        yield Problem(f"'{path}' is a file, not a run directory", hint=f"did you mean its folder, {path.parent}?")
    elif not any((path / name).exists() for name in FILES):
        inside = sorted(entry.name for entry in path.iterdir() if any((entry / name).exists() for name in FILES))
        held = " ".join(str(path / name) for name in inside[:5])
        hint = f"it holds runs: {held}" if held else "`fttool run` makes them"
        yield Problem(f"'{path}' is not a run directory", hint=hint)


def _read(path: Path) -> PastRun:
    run = PastRun(path=path)
    recipe = _file(run, "recipe.resolved.toml", tomli.loads)
    run.recipe = {key: value for key, value in flat(recipe) if key not in NO_MATTER}
    run.surroundings = _surroundings(_file(run, "lock.json", json.loads))
    if not (path / "summary.json").exists():
        run.problems.append("it has no summary.json: it is still running, or was killed")
        run.steps = _last_step(path / "metrics.jsonl")
        return run
    noted = len(run.problems)
    summary = _file(run, "summary.json", json.loads)
    run.summary, status = summary, summary.get("status")
    if len(run.problems) == noted and not isinstance(status, str):
        run.problems.append(f"summary.json is damaged: it has {'no' if status is None else 'an odd'} status")
    run.status = status if isinstance(status, str) else "damaged"
    for name in ("steps", "total_steps", "seconds", "tokens_per_second", "peak_memory_bytes"):
        given = summary.get(name)
        value = number(given)
        if value is not None and 0 <= value < math.inf:
            setattr(run, name, value)
        elif given is not None:
            run.problems.append(f"summary.json is damaged: its {name} cannot be {repr(given)[:40]}")
    better_is = table_at(summary, "better_is")
    run.gained = _measured(table_at(summary, "eval"), better_is)
    retention = table_at(summary, "retention")
    before, after = table_at(retention, "before"), table_at(retention, "after")
    for dataset in before:
        run.retained[dataset] = _measured({"before": before[dataset], "after": after.get(dataset)}, better_is)
    return run


def _file(run: PastRun, name: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    """A file of the run directory as a table; an empty one where it is missing or damaged, which is noted."""
    try:
        content = parse((run.path / name).read_text(encoding="utf-8"))
        if not is_table(content):
            raise ValueError("it holds no table")
    except (OSError, ValueError) as fault:  # among them the errors of tomli and json
        run.problems.append(f"{name} is missing or damaged: {gist(fault)}")
        run.status = "damaged"
        return {}
    return dict(content)


def _last_step(metrics: Path) -> int | None:
    """The update of the last complete line of `metrics.jsonl`, which a run may be writing just now."""
    try:
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        steps = [json.loads(line)["step"] for line in lines if line.endswith("\n")][-1:]
    except (OSError, ValueError, TypeError, KeyError):  # what is not there, or damaged, says nothing
        return None
    return steps[0] if steps and isinstance(steps[0], int) else None


def _measured(table: Mapping[str, Any], better_is: Mapping[str, Any]) -> dict[str, Measured]:
    """The metrics of a table with `before` and `after`."""
    before, after = table_at(table, "before"), table_at(table, "after")
    return {name: Measured(number(before[name]), number(after.get(name)), better_is.get(name)) for name in before}


def _surroundings(lock: Mapping[str, Any]) -> dict[str, str]:
    surroundings: dict[str, str] = {}
    for _, entry in children(lock.get("files")):
        if is_table(entry):
            content = str(entry.get("sha256", entry.get("fingerprint", "")))
            surroundings[f"content of {entry.get('table')}"] = content[:8]
    model = table_at(lock, "model")
    for name, value in model.items():
        if name == "commit" or str(value).startswith(("sha256:", "bytes:")):
            surroundings[f"model {name}"] = str(value).removeprefix("sha256:")[:12]
    for name, version in table_at(lock, "packages").items():
        surroundings[f"version of {name}"] = str(version)
    for name in (code := table_at(lock, "code")):
        surroundings[f"code of {name}"] = str(table_at(code, name).get("sha256", ""))[:8]
    hardware = table_at(lock, "hardware")
    if hardware:
        gpus = [str(gpu) for _, gpu in children(hardware.get("gpus"))]
        surroundings["hardware"] = ", ".join([f"{hardware.get('cores')} cores", *gpus])
    return surroundings


def flat(data: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of a recipe by its key; a list of plain values is one of them, and an empty one says nothing."""
    inner = list(children(data))
    if data in ([], {}):
        return
    if not inner or (not is_table(data) and not any(is_table(value) for _, value in inner)):
        yield key, data
        return
    for name, value in inner:
        yield from flat(value, f"{key}.{name}" if key else str(name))


def table_at(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table at a key; an empty one where there is none."""
    table = data.get(key)
    return table if is_table(table) else {}


def number(value: Any) -> float | None:
    """A number of `summary.json`, which writes infinities and NaN as text; None for anything else."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
        return None
    return value


def plain(value: float | None) -> float | str | None:
    """A number for JSON, which has no NaN or infinity: they become text, as in `summary.json`."""
    return value if value is None or math.isfinite(value) else str(value)
