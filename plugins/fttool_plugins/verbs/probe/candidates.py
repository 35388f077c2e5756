"""What is measured: shardings and micro-batches, each of them the recipe with a few overrides and the same updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fttool.api import FttoolError, Sharding, UsageError, did_you_mean
from fttool.verbs import Loaded, with_overrides
from fttool_plugins.sharding.ddp import DDP
from fttool_plugins.sharding.fsdp import FSDP
from fttool_plugins.sharding.none import Unsharded
from fttool_plugins.sharding.zero import INSTALL, ZeRO
from fttool_plugins.verbs.updates_alone import updates_alone

KNOWN: Mapping[str, Callable[[int], Sharding]] = {
    "none": lambda processes: Unsharded(),
    "ddp": lambda processes: DDP(processes=processes),
    "fsdp-2": lambda processes: FSDP(processes=processes, reshard_after_forward=False),
    "fsdp-3": lambda processes: FSDP(processes=processes),
    "zero-1": lambda processes: ZeRO(processes=processes, stage=1),
    "zero-2": lambda processes: ZeRO(processes=processes, stage=2),
    "zero-3": lambda processes: ZeRO(processes=processes, stage=3),
}
"""By a short name, in the order of what they share; the numbers are the stages of the ZeRO paper."""
ALL, OWN = "all", "recipe"
"""Words for `KNOWN` that several processes can have, and for the recipe's own."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A sharding and a micro-batch."""

    sharding: str
    """Its short name."""
    options: Mapping[str, Any]
    """The table `[sharding]`."""
    micro_batch: int
    accumulation: int
    own: bool
    """The sharding is the recipe's."""
    loaded: Loaded | None = None
    """The recipe to run; None where it is refused."""
    refusal: str = ""

    def __str__(self) -> str:
        return f"{self.sharding} with micro-batch {self.micro_batch}"


def shardings(loaded: Loaded, asked: Sequence[str], processes: int | None) -> dict[str, Sharding]:
    """The shardings that are asked for, by their short names; the recipe's own where none is."""
    own = loaded.recipe.sharding
    if own.launch.nodes > 1 and processes is None:
        message = f"the recipe is for {own.launch.nodes} machines, and this measures on one"
        raise UsageError(message, hint="say how many processes this one is to have: --processes N")
    number = processes or own.world_size
    mine = _started_here(own, number)
    known = {name: make(number) for name, make in KNOWN.items()}
    label = next((name for name, sharding in known.items() if _alike(sharding, mine)), f"{OWN} ({own.id()})")
    fits = mine.world_size == number
    if not fits and (not asked or OWN in asked):
        message = f"the recipe's sharding '{own.id()}' is not for {number} processes"
        raise UsageError(message, hint="choose others: --sharding all")
    listed: dict[str, Sharding] = {}
    for word in asked or [OWN]:
        if word == ALL:
            names = [name for name, make in KNOWN.items() if _spreads(make) == (number > 1)]
            names += [label] if fits else []
        elif word == OWN:
            names = [label]
        else:
            names = [name for name in known if name == word or name.startswith(f"{word}-")]
        if not names:
            hint = did_you_mean(word, [ALL, OWN, *known])
            raise UsageError(f"unknown sharding '{word}' to measure", hint=hint)
        listed |= {name: mine if name == label else known[name] for name in names}
    return listed


def micro_batches(loaded: Loaded, processes: int, asked: Sequence[int]) -> list[int]:
    """Those asked for, else the recipe's, its half and its double, where they divide a process's share of an update."""
    rows = loaded.recipe.global_batch
    own: Any = loaded.recipe.run.micro_batch
    if not asked and not isinstance(own, int):
        message = f"the recipe's run.micro_batch is {own!r}: it gives no number to start from"
        raise UsageError(message, hint="say which to measure: --micro-batches 1,2,4")
    if rows % processes:
        hint = f"e.g. --set run.global_batch={math.ceil(rows / processes) * processes}"
        raise UsageError(f"{processes} processes cannot share the {rows} rows of an update", hint=hint)
    share = rows // processes
    for wanted in asked:
        if share % wanted:
            divisors = ", ".join(str(size) for size in range(1, share + 1) if share % size == 0)
            where = f"the {share} rows that each of {processes} processes has of an update"
            raise UsageError(f"micro-batches of {wanted} do not divide {where}", hint=f"what does: {divisors}")
    if asked:
        return sorted(set(asked))
    start = math.gcd(own, share)
    halved = [start // 2] if start % 2 == 0 else []
    return [*halved, start, *([2 * start] if share % (2 * start) == 0 else [])]


def make_candidates(
    loaded: Loaded, chosen: Mapping[str, Sharding], asked: Sequence[int], updates: int, folder: Path
) -> list[Candidate]:
    """All of them, small micro-batches first; their runs of `updates` go to `folder`."""
    own = loaded.recipe.sharding
    candidates: list[Candidate] = []
    for name, sharding in chosen.items():
        for micro_batch in micro_batches(loaded, sharding.world_size, asked):
            refusal, variant = _missing(sharding), None
            changes = {
                **updates_alone(loaded, updates),
                # The rate climbs all the way: none of so few updates may diverge.
                "schedule": {"name": "constant", "warmup": updates},
                "run.output": str(folder),
                "run.name": str(len(candidates) + 1),
                "run.micro_batch": micro_batch,
                "sharding": _table(sharding),
            }
            try:
                variant = None if refusal else with_overrides(loaded, changes)
            except FttoolError as error:
                refusal = error.problems[0].message
            candidates.append(
                Candidate(
                    sharding=name,
                    options=_table(sharding),
                    micro_batch=micro_batch,
                    accumulation=loaded.recipe.global_batch // (micro_batch * sharding.world_size),
                    own=sharding.world_size == own.world_size and _alike(sharding, _started_here(own, own.world_size)),
                    loaded=variant,
                    refusal=refusal,
                )
            )
    return candidates


def _started_here(sharding: Sharding, processes: int) -> Sharding:
    """On one machine, without restarts, in that many processes where it leaves their number open."""
    wanted = {"processes": processes, "nodes": 1, "max_restarts": 0}
    return sharding.model_copy(
        update={key: value for key, value in wanted.items() if getattr(sharding, key, value) != value}
    )


def _spreads(make: Callable[[int], Sharding]) -> bool:
    """True where it takes as many processes as it is given, by what it says of itself."""
    return make(2).world_size == 2


def _alike(first: Sharding, second: Sharding) -> bool:
    """True where they differ in nothing but how long processes wait for each other."""
    return type(first) is type(second) and first.model_dump(exclude={"timeout"}) == second.model_dump(
        exclude={"timeout"}
    )


def _table(sharding: Sharding) -> dict[str, Any]:
    """As one writes it in a recipe: the options that somebody has said."""
    return {"name": sharding.id(), **sharding.model_dump(mode="json", exclude_unset=True, exclude_none=True)}


def _missing(sharding: Sharding) -> str:
    """Why it cannot run here, where that is known without trying."""
    if isinstance(sharding, ZeRO) and find_spec("deepspeed") is None:
        return f"it needs deepspeed: {INSTALL}"
    return ""
