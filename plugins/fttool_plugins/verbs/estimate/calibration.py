"""What this user's runs on this machine have taken, kept for the next estimate: a file of JSON lines.

A line is a run: what it computed, how long it took, and what had been predicted. Two things follow. A run of a like
size says what the next one will take, without measuring anything; and where measured predictions were wrong on this
machine by some factor, the next one is mended by it. The file lies in the user's folder of state
(`$XDG_STATE_HOME/fttool/estimates.jsonl`, by default under `~/.local/state`), has the newest `KEPT` lines, and may be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from fttool.api import Recipe
from fttool.verbs import user_folder
from fttool_plugins.verbs.estimate.measuring import LEAST, Speed

T = TypeVar("T")
RUNS, MEASURED = "estimates.jsonl", "estimates-measured.jsonl"
"""Runs that have ended, and speeds that `fttool estimate` has measured."""
KEPT = 200
"""Lines."""
NEAREST = 5
"""Runs of like size from which a prediction is made."""
SHORTEST = 0.5
"""Seconds; what took less says nothing of the next run."""
WIDEST = 3.0
"""The largest half width of an interval, as a factor, that is still worth saying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A run that has ended."""

    device: str
    """The GPU, or the processor and how many of its cores torch uses."""
    precision: str
    """`bf16`, `fp16` or `no`: the format of its computation."""
    operations: float
    """Of its updates, of one process."""
    passes: float
    """Its micro-batches, of one process."""
    seconds: float
    """That its updates took."""
    predicted: float | None = None
    """Seconds that had been predicted by a measurement, before any mending."""
    when: str = ""
    """Date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What `fttool estimate` has measured of a recipe."""

    recipe: str
    """Its `recipe_key`."""
    device: str
    rate: float
    each: float
    spread: float
    when: str = ""


def recipe_key(recipe: Recipe) -> str:
    """A hash of every option that an update's speed may depend on."""
    values = recipe.model_dump(mode="json", serialize_as_any=True)
    for name in ("tracking", "plugins", "checkpoints", "evaluation"):
        values.pop(name, None)
    for name in ("name", "output", "epochs", "max_steps", "log_every", "seed"):
        values["run"].pop(name, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8")).hexdigest()[:32]


def place(name: str = RUNS) -> Path | None:
    """Where a file of lines is, or would be; None for a user without a home."""
    state = user_folder("XDG_STATE_HOME", ".local/state")
    return None if state is None else state / name


def device_name() -> str:
    """This machine's device, as lines are kept by it; torch has been imported."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} of {os.cpu_count()} cores"


def lines(device: str, precision: str) -> list[Line]:
    """What is known of a device, oldest first; a line that cannot be read is passed over."""
    found = [line for values in _read(RUNS) if (line := _made(Line, values)) is not None]
    return [
        line
        for line in found
        if (line.device, line.precision) == (device, precision) and min(line.seconds, line.operations, line.passes) > 0
    ]


def add(line: Line) -> None:
    """Keep a run; where there is no place for it, nothing happens: it is a help and no record."""
    figures = (line.operations, line.passes, line.seconds)
    if all(map(math.isfinite, figures)) and min(figures) > 0 and line.seconds >= SHORTEST:
        _append(RUNS, asdict(line))


def remember(recipe: Recipe, speed: Speed) -> None:
    """Keep what was measured of a recipe."""
    found = Remembered(
        recipe=recipe_key(recipe),
        device=device_name(),
        rate=speed.rate,
        each=speed.each,
        spread=speed.spread,
        when=date.today().isoformat(),
    )
    _append(MEASURED, asdict(found))


def remembered(recipe: Recipe) -> Speed | None:
    """What was last measured of a recipe here."""
    key, device = recipe_key(recipe), device_name()
    found = [one for values in _read(MEASURED) if (one := _made(Remembered, values)) is not None]
    mine = [one for one in found if (one.recipe, one.device) == (key, device) and one.rate > 0 and one.each >= 0]
    if not mine:
        return None
    last = mine[-1]
    return Speed(
        rate=last.rate, each=last.each, spread=last.spread, source=f"measured by fttool estimate on {last.when}"
    )


def known_speed(known: Sequence[Line], operations: float, passes: float) -> Speed | None:
    """The speed of the runs that are nearest in the operations of a micro-batch; None where nothing is near."""
    if not known or operations <= 0 or passes <= 0:
        return None
    wanted = math.log(operations / passes)

    def distance(line: Line) -> float:
        return abs(math.log(line.operations / max(1.0, line.passes)) - wanted)

    nearest = sorted(known, key=distance)[:NEAREST]
    rates = [line.operations / line.seconds for line in nearest]
    middle = median(rates)
    off = max(max(rate / middle, middle / rate) for rate in rates) * (1 + distance(nearest[0]))
    spread = max(2 * LEAST, off - 1 if len(nearest) > 1 else 0.5)
    if off > WIDEST:
        return None
    said = f"{len(nearest)} earlier run{'s' if len(nearest) > 1 else ''} on this machine"
    return Speed(rate=middle, each=0.0, spread=min(0.9, spread), source=said)


def mended(speed: Speed, known: Sequence[Line]) -> Speed:
    """The speed times what measured predictions on this device were wrong by, by the median of the newest."""
    wrong = [line.seconds / line.predicted for line in known if line.predicted][-4 * NEAREST :]
    if len(wrong) < 2:
        return speed
    factor = median(wrong)
    left = 2 * median(abs(one / factor - 1) for one in wrong)
    return Speed(
        rate=speed.rate / factor,
        each=speed.each * factor,
        spread=max(LEAST, left),
        source=f"{speed.source}, times {factor:.2f} by {len(wrong)} earlier runs on this machine",
    )


# -- files of JSON lines -------------------------------------------------------------------------------------------


def _read(name: str) -> list[Any]:
    where = place(name)
    if where is None:
        return []
    found: list[Any] = []
    with suppress(OSError, UnicodeDecodeError):
        for text in where.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                found.append(json.loads(text))
    return found


def _append(name: str, values: Mapping[str, Any]) -> None:
    """Add a line, and drop the oldest beyond `KEPT`; what another process adds in the same moment may be lost."""
    where = place(name)
    if where is None:
        return
    with suppress(OSError, UnicodeDecodeError):
        where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = where.read_text(encoding="utf-8").splitlines() if where.exists() else []
        kept = [*before[-(KEPT - 1) :], json.dumps(values)]
        aside = where.with_name(f".{where.name}.{os.getpid()}.partial")
        aside.write_text("\n".join(kept) + "\n", encoding="utf-8")
        aside.replace(where)


def _made(kind: type[T], values: Any) -> T | None:
    """One of `kind`, where the values are of the kinds that its fields want."""
    if not isinstance(values, dict):
        return None
    wanted = {field.name: str(field.type) for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name, value in values.items():
        text, empty = wanted.get(name) == "str", value is None and "None" in wanted.get(name, "")
        if isinstance(value, bool) or not (empty or isinstance(value, str if text else int | float)):
            return None
    try:
        return kind(**values)
    except TypeError:
        return None
