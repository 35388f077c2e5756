"""Advice on a recipe: every installed rule is asked, and those that lack what they need are named.

A rule that raises is passed over, and that is said. `[advice] ignore` leaves rules out by their id; they are not even
imported then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from fttool.contracts.advice import ADVICE, Advice, AdviceContext, AdviceRule
from fttool.contracts.recipe import Recipe
from fttool.errors import counted, gist

if TYPE_CHECKING:
    from fttool.recipe.overrides import Key
    from fttool.runs.stages.loop import Prepared

PARTS = ("train", "eval", "general", "retention")
"""Datasets of a recipe whose rows are counted."""
MISSING = {
    "rows": "the number of training rows is known to `fttool run --dry-run` alone",
    "run": "tokens, weights and rates are known to `fttool run --dry-run` alone",
}
"""What a rule needs, and why it was not asked without it."""


@dataclass
class Advised:
    """What all rules say."""

    found: list[tuple[str, Advice]] = field(default_factory=list[tuple[str, Advice]])
    """Ids and advice, in the order of the ids."""
    asked: int = 0
    """Rules that were asked, whatever they said."""
    unasked: dict[str, str] = field(default_factory=dict[str, str])
    """Ids of rules that were not, and why."""
    ignored: list[str] = field(default_factory=list[str])
    """Ids that the recipe leaves out."""

    def lines(self, where: Callable[[Key], str]) -> list[str]:
        """For people; `where` says where a key stands in the recipe."""
        lines = [f"{counted(self.asked, 'rule')} asked, {counted(len(self.found), 'piece')} of advice"]
        for name, advice in self.found:
            place = f"{where(advice.key)}: " if advice.key else ""
            lines += [f"{place}{name}: {advice.happens}", f"    {advice.remedy}", f"    {advice.source}"]
        if self.ignored:
            lines.append(f"ignored, as the recipe says: {', '.join(self.ignored)}")
        for why in dict.fromkeys(self.unasked.values()):
            names = [name for name, reason in self.unasked.items() if reason == why]
            lines.append(f"not asked: {', '.join(names)}: {why}")
        return lines

    def figures(self, where: Callable[[Key], str]) -> dict[str, Any]:
        """For programs."""
        advice = [
            {
                "id": name,
                "where": where(one.key) if one.key else "",
                "happens": one.happens,
                "remedy": one.remedy,
                "source": one.source,
                "figures": dict(one.figures),
            }
            for name, one in self.found
        ]
        return {"advice": advice, "asked": self.asked, "not_asked": self.unasked, "ignored": self.ignored}


def advise(recipe: Recipe, rows: Mapping[str, int | None], prepared: Prepared | None = None) -> Advised:
    """Ask every installed rule of a recipe with so many rows; without `prepared`, those that need no such run."""
    context, advised = AdviceContext(recipe=recipe, rows=rows, prepared=prepared), Advised()
    known = {"recipe": True, "rows": rows.get("train") is not None, "run": prepared is not None}
    for point in sorted(entry_points(group=ADVICE), key=lambda point: point.name):
        if point.name in recipe.advice.ignore:
            advised.ignored.append(point.name)
            continue
        try:
            rule: AdviceRule = point.load()
            if not known[rule.needs]:
                advised.unasked[point.name] = MISSING[rule.needs]
                continue
            advice = _checked(rule.judge(context))
        except (Exception, SystemExit) as fault:  # of no use to a recipe that is good without it
            advised.unasked[point.name] = f"it failed: {gist(fault)}"
            continue
        advised.asked += 1
        if advice is not None:
            advised.found.append((point.name, advice))
    return advised


def _checked(advice: Advice | None) -> Advice | None:
    """What a rule says, where it is of the type that is promised."""
    if not isinstance(advice, Advice | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"it says {type(advice).__name__}, not Advice or None")
    return advice


def advise_prepared(prepared: Prepared) -> Advised:
    """Ask every installed rule of a run just before its first update."""
    rows = prepared.rows
    counts = {
        "train": len(rows.train),
        "eval": len(rows.eval),
        "general": sum(map(len, rows.general.values())),
        "retention": sum(map(len, rows.retention.values())),
    }
    return advise(prepared.loaded.recipe, counts, prepared)
