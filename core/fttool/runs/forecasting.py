"""Forecasts of a run just before its first update: what plugins say it will take, and afterwards what it took.

A plugin brings one by an entry point of the group `fttool.forecasts.v1`: a function from the prepared run to a
`Forecast`, or to None where it has nothing to say. It must cost next to nothing, as every run waits for it; one that
raises is passed over, and the log says so. `[plugins] disable` switches one off by its entry point's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from fttool.errors import gist

if TYPE_CHECKING:
    from fttool.runs.stages.loop import Prepared

GROUP = "fttool.forecasts.v1"


class Forecast(Protocol):
    """What a plugin expects of a run."""

    @property
    def lines(self) -> Sequence[str]:
        """For people, one or two."""
        ...

    @property
    def figures(self) -> Mapping[str, Any]:
        """The same for programs, as JSON has it."""
        ...

    def ended(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """Told once how the run ended, by what `summary.json` is going to have: what it took in truth."""
        ...


@dataclass(frozen=True)
class Forecasts:
    """Those of all plugins, by the names of their entry points."""

    by_name: Mapping[str, Forecast]
    faults: Sequence[str] = ()
    """Of plugins that raised, in a sentence each."""

    @property
    def lines(self) -> list[str]:
        """For people."""
        return [line for forecast in self.by_name.values() for line in forecast.lines]

    @property
    def figures(self) -> dict[str, Any]:
        """For programs."""
        return {name: dict(forecast.figures) for name, forecast in self.by_name.items()}

    def compared(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """The summary of a run, with what was `predicted` and what was `actual` under `forecasts`."""
        told: dict[str, Any] = {}
        for name, forecast in self.by_name.items():
            try:
                actual = dict(forecast.ended(summary))
            except Exception as fault:  # the run has ended well, and must not fail for this
                actual = {"error": gist(fault)}
            told[name] = {"predicted": dict(forecast.figures), "actual": actual}
        return {**summary, "forecasts": told}


def forecast(prepared: Prepared) -> Forecasts:
    """Ask all that are installed, and not switched off, in the process that shows the run; what they say is noted."""
    found: dict[str, Forecast] = {}
    faults: list[str] = []
    disabled = prepared.loaded.recipe.plugins.disable
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name) if prepared.world.first else []
    for point in points:
        if point.name in disabled:
            continue
        try:
            made = point.load()(prepared)
        except (Exception, SystemExit) as fault:  # of no use to a run that would go well without it
            faults.append(f"no forecast of '{point.name}': {gist(fault)}")
            continue
        if made is not None:
            found[point.name] = made
    forecasts = Forecasts(found, faults)
    for line in (*faults, *forecasts.lines):
        prepared.watch.note(line)
    return forecasts
