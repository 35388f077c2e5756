"""Classes that may be one: `1` and `"1"`, `Ham` and `ham`, `spma` beside `spam`; and what looks like a missing value.

A class too many is learned as any other, takes rows from the one that was meant, and shows in no number.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from fttool.contracts.rows import Example
from fttool.plain import is_array
from fttool.rows.checks.noted import Noted

SHOWN = 5
"""Classes, or pairs of them, that are named of each kind."""
LETTERS = 4
"""The shortest name that is held against others for a slip of the pen: `ham` and `jam` are two words."""
MISSING = {"nan", "none", "null", "nil", "n/a", "na", "#n/a", "undefined", "?", "-"}
"""What programs write where there is no value."""


@dataclass
class ClassNames:
    """The classes of a dataset's rows, and how the rows write them."""

    counts: Counter[str] = field(default_factory=Counter[str])
    """Rows of each class."""
    written: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter[str]))
    """Of each class, how often it is text, a number, true or false."""

    def add(self, row: Noted, example: Example) -> None:
        """Count the classes of a row that has some."""
        if not example.labels:
            return
        self.counts.update(example.labels)
        for key in row.noted & row.keys():
            value: Any = dict.__getitem__(row, key)
            for entry in value if is_array(value) else [value]:
                name, kind = _as_written(entry)
                if name in example.labels and entry != example.prompt:
                    self.written[name][kind] += 1

    def notices(self) -> list[str]:
        """What may be a mistake, in sentences."""
        return [*self._mixed(), *alike(self.counts), *self._odd()]

    def _mixed(self) -> Iterable[str]:
        kinds = sum(self.written.values(), Counter[str]())
        if len(kinds) > 1:
            both = [f"'{name}'" for name, kinds_of in self.written.items() if len(kinds_of) > 1]
            example = f"; of {_listed(both)} both are one class" if both else ""
            yield f"classes are written as {', '.join(f'{kind} ({n:,})' for kind, n in kinds.most_common())}{example}"

    def _odd(self) -> Iterable[str]:
        missing = [f"'{name}' ({n:,})" for name, n in self.counts.items() if name.casefold() in MISSING]
        if missing:
            yield f"classes that look like a missing value: {_listed(missing)}"
        single = [f"'{name}'" for name, n in self.counts.items() if n == 1]
        if single and len(self.counts) > 1:
            yield f"classes with one row: {_listed(single)}"


def joined(counted: Iterable[ClassNames]) -> ClassNames:
    """The classes of several datasets as one."""
    merged = ClassNames()
    for names in counted:
        merged.counts.update(names.counts)
        for name, kinds in names.written.items():
            merged.written[name].update(kinds)
    return merged


def alike(counts: Mapping[str, int]) -> list[str]:
    """The classes that look like one: but for case, blanks, punctuation, the way in which Unicode writes a letter or a
    person a number, or for one slip of the pen.
    """
    same: dict[str | float, list[str]] = defaultdict(list)
    for name in counts:
        same[class_core(name)].append(name)
    pairs = {pair for names in same.values() for pair in combinations(sorted(names), 2)} | class_slips(counts)
    shown = [f"'{first}' ({counts[first]:,}) and '{second}' ({counts[second]:,})" for first, second in sorted(pairs)]
    return [f"classes that look like one: {_listed(shown, '; ')}"] if shown else []


def class_core(name: str) -> str | float:
    """What is left of a class's name where case, blanks, punctuation and the form of letters and numbers do not count.

    `c`, `c++` and `c#` stay three, and `-1` stays below 0.
    """
    plain = unicodedata.normalize("NFKC", name).casefold()
    with suppress(ValueError):
        if not math.isnan(number := float(plain)):
            return number
    return re.sub(r"[^\w+#]+|_+", "", unicodedata.normalize("NFKC", plain)) or plain


def class_slips(names: Iterable[str]) -> set[tuple[str, str]]:
    """Pairs of names of which one letter too many, too few, wrong, or two that changed places make the other.

    None of names with digits, and none of names of fewer than `LETTERS` letters.
    """
    without: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if len(name) >= LETTERS and not re.search(r"\d", name):
            for part in {name, *(name[:at] + name[at + 1 :] for at in range(len(name)))}:
                without[part].add(name)
    return {pair for group in without.values() for pair in combinations(sorted(group), 2) if _one_slip(*pair)}


def _one_slip(first: str, second: str) -> bool:
    if len(first) != len(second):
        short, long = sorted((first, second), key=len)
        return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
    differ = [at for at in range(len(first)) if first[at] != second[at]]
    swapped = len(differ) == 2 and differ[1] == differ[0] + 1 and sorted(first) == sorted(second)
    return len(differ) == 1 or swapped


def _as_written(value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return str(value).lower(), "true or false"
    if isinstance(value, int | float):
        return str(value), "a number"
    return (value.strip(), "text") if isinstance(value, str) else ("", "")


def _listed(words: list[str], between: str = ", ") -> str:
    more = f" and {len(words) - SHOWN:,} more" if len(words) > SHOWN else ""
    return between.join(words[:SHOWN]) + more
