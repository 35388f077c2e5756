"""`class-names`: one class that is spelled in several ways becomes one.

A spelling too many is learned as a class of its own. It takes rows from the one that was meant, and no metric shows it:
`Spam` where `spam` was expected counts as wrong, whatever the model has understood.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Levels, Reason, RowFilter, Verdict, class_core, class_slips

SHOWN = 24
"""Characters of a name that a reason has."""


class ClassNames(Filter):
    """Relabel, drop or flag rows with a class whose name looks like another spelling of a more frequent one.

    Case, blanks, punctuation and the way in which Unicode writes a letter make no difference, nor does `1.0` beside
    `1`; `c`, `c++` and `c#` stay three classes. One letter too many, too few or wrong, and two that have changed
    places, are a slip of the pen where names have four letters or more, no digits, and one of them is rare. What counts
    is the spelling that most rows have; where evaluation rows have the class, theirs, since those stay as they are.

    It knows letters and no meanings: `spam` and `junk` stay two, and of two rare words that differ by a letter, such as
    `causal` and `casual`, one is taken for the other. Look first (`action = "flag"`, or `fttool audit`).

    Cost: next to nothing.
    """

    name: Literal["class-names"] = "class-names"
    level: ClassVar[Levels] = ("row", "word")
    action: Literal["relabel", "drop", "flag"] = "relabel"
    """What becomes of such a row: given the more frequent spelling, dropped, or only counted."""
    slips: Annotated[float, Field(ge=0, le=1)] = 0.1
    """How rare a name must be to be a slip of the pen: its rows over those of the name that it looks like. With 0 none
    is; classes of words, such as `B-PER` and `I-PER`, have none."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            measured = _counted(ctx.measured_rows)
            words = any(example.words for example in examples)
            meant = spellings(_counted(examples), measured, 0.0 if words else self.slips)
            first: dict[str, str] = {}
            for example in examples:
                for label in example.labels or ():
                    first.setdefault(label, example.origin)
            return [self._verdict(example, meant, first) for example in examples]

        return decide

    def _verdict(self, example: Example, meant: Mapping[str, str], first: Mapping[str, str]) -> Verdict:
        wrong = next((label for label in example.labels or () if label in meant), None)
        if wrong is None:
            return None
        words = f"its class '{_shortened(wrong)}' looks like '{_shortened(meant[wrong])}'"
        reason = Reason(words, like=first.get(meant[wrong], ""))
        if self.action == "drop":
            return reason
        labels = tuple(meant.get(label, label) for label in example.labels or ())
        labels = labels if example.words else tuple(dict.fromkeys(labels))
        return Kept(reason, replace(example, labels=labels) if self.action == "relabel" else None)


def spellings(counts: Mapping[str, int], measured: Mapping[str, int], slips: float) -> dict[str, str]:
    """Names that are another spelling of a class → the name that is meant; `measured` are those of evaluation rows."""
    groups: dict[str | float, list[str]] = defaultdict(list)
    for name in {*counts, *measured}:
        groups[class_core(name)].append(name)
    rows = {core: sum(counts.get(name, 0) for name in names) for core, names in groups.items()}
    fixed = {core for core, names in groups.items() if not measured.keys().isdisjoint(names)}
    meant: dict[str | float, str | float] = {}
    slipped = class_slips(core for core in groups if isinstance(core, str))
    for rare, usual in (sorted(pair, key=lambda core: (rows[core], core)) for pair in sorted(slipped)):
        if rare not in fixed and rows[rare] <= slips * rows[usual] and rows[usual] > rows.get(meant.get(rare, ""), 0):
            meant[rare] = usual

    def spelled(core: str | float) -> str:
        return min(groups[core], key=lambda name: (-measured.get(name, 0), -counts.get(name, 0), name))

    found = {name: spelled(meant.get(core, core)) for core, names in groups.items() for name in names}
    return {name: other for name, other in found.items() if name != other and name not in measured}


def _counted(examples: Sequence[Example]) -> Counter[str]:
    return Counter(label for example in examples for label in example.labels or ())


def _shortened(name: str) -> str:
    plain = " ".join(name.split())
    return plain if len(plain) <= SHOWN else f"{plain[: SHOWN - 1]}…"
