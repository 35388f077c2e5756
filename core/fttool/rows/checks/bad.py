"""Rows that cannot be learned from: all of a dataset's at once, alike ones together; refused, or dropped and listed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from fttool.contracts.recipe import RowsTable
from fttool.contracts.rows import ChatTemplateError
from fttool.contracts.strategy import to_steps
from fttool.errors import DataError, Problem, counted
from fttool.rows.gone import Gone
from fttool.rows.spooled import Spool

SHOWN_PROBLEMS = 5
"""Kinds of bad rows named in one error."""
SHOWN_PLACES = 4
"""Rows named of each kind."""
MOST = 100
"""Bad rows of a dataset after which reading stops, where they are refused: the rest is likely the same mistake."""
ANOTHER_TEMPLATE = 'choose another chat template: model.chat_template = "chatml", or a Jinja file'
"""What to do where the rows are not to blame."""
CEILING = 0.05
"""Share of a dataset's rows that may be dropped as bad, where the recipe does not say."""


@dataclass
class BadRows:
    """The bad rows of one dataset."""

    table: RowsTable
    found: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(`file:line`, what is wrong)."""
    gone: Spool[Gone] = field(default_factory=Spool[Gone])
    """The same rows as they are listed."""
    rows: int = 0
    """All that were read, good or bad."""
    by_template: int = 0
    """Of the bad ones those that the chat template is to blame for."""

    @property
    def drops(self) -> bool:
        """True where they are dropped."""
        return self.table.on_bad_row == "drop"

    @property
    def enough(self) -> bool:
        """True where they are refused, and so many that there is no use in reading on."""
        return not self.drops and len(self.found) >= MOST

    def add(self, gone: Gone, wrong: Exception) -> None:
        """Note one."""
        self.gone.append(gone)
        self.found.append((gone.row, gone.reason))
        self.by_template += isinstance(wrong, ChatTemplateError)

    def settle(self) -> None:
        """Once rows have been read: raise `DataError` for the bad ones, or for too many of them."""
        if not self.found:
            return
        ceiling = self.table.max_bad_rows if self.table.max_bad_rows is not None else CEILING
        if self.drops and len(self.found) <= to_steps(ceiling, self.rows):
            return
        problems = alike(self.found)
        by_row = len(self.found) - self.by_template
        hint = "; ".join([*([ANOTHER_TEMPLATE] if self.by_template else []), *([mend(by_row)] if by_row else [])])
        if self.drops:
            way = "fix them" if by_row else ANOTHER_TEMPLATE
            hint = f"{self._share()}, more than max_bad_rows = {ceiling:g} lets drop; {way}, or raise it"
        elif by_row and len(self.found) == self.rows > 1:
            hint = f"not one of {self.rows:,} rows could be read: is format '{self.table.format.id()}' the right one?"
        else:
            hint += '; to leave such rows out, set on_bad_row = "drop" beside the path'
        raise DataError([*problems[:-1], Problem(problems[-1].message, problems[-1].where, hint)])

    def counts(self) -> dict[str, int]:
        """How many rows of each kind are dropped, by a few words."""
        kinds = Counter[str]()
        for members in _kinds(self.found).values():
            kinds[_headline(members[0][1])] += len(members)
        return dict(kinds)

    def notice(self) -> str:
        """What is dropped, in a sentence with the first places of each kind."""
        kinds = [f"{members[0][1]} ({_places(members)})" for members in _kinds(self.found).values()]
        more = f"; and {counted(len(kinds) - SHOWN_PROBLEMS, 'more kind')}" if len(kinds) > SHOWN_PROBLEMS else ""
        return f"{self.table.dataset}: {self._share()} and left out: {'; '.join(kinds[:SHOWN_PROBLEMS])}{more}"

    def _share(self) -> str:
        verb = "is" if len(self.found) == 1 else "are"
        return f"{len(self.found):,} of {counted(self.rows, 'row')} {verb} bad"


def alike(bad: list[tuple[str, str]]) -> list[Problem]:
    """A problem for each kind of bad row, at its first place, with the next places and the number of the others."""
    kinds = list(_kinds(bad).values())
    problems = [
        Problem(members[0][1] + (f" ({_elsewhere(members)})" if len(members) > 1 else ""), members[0][0])
        for members in kinds[:SHOWN_PROBLEMS]
    ]
    others = kinds[SHOWN_PROBLEMS:]
    if others:
        rows = sum(map(len, others))
        more = f" (and {counted(rows, 'more bad row')} of {counted(len(others), 'other kind')})"
        problems[-1] = Problem(problems[-1].message + more, problems[-1].where)
    return problems


def mend(count: int) -> str:
    """What to do about so many bad rows."""
    more = "; there may be more" if count >= MOST else ""
    return f"fix or delete {'this row' if count == 1 else 'these rows'}{more}"


def _kinds(bad: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """What differs only in numbers and in the words that it quotes at length is of one kind."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for origin, wrong in bad:
        kind = re.sub(r"\d+", "#", re.sub(r"'[^']{16,}'|\"[^\"]{16,}\"", "…", wrong))
        kinds.setdefault(kind, []).append((origin, wrong))
    return kinds


def _places(alike: list[tuple[str, str]]) -> str:
    """`rows.jsonl:2, also at :4 and :7`."""
    return alike[0][0] + (f", {_elsewhere(alike)}" if len(alike) > 1 else "")


def _elsewhere(alike: list[tuple[str, str]]) -> str:
    """`also at :4, :7 and 12 more`: the places after the first, of one file by their lines alone."""
    origins = [origin for origin, _ in alike]
    file = origins[0].rpartition(":")[0]
    shown = [place.removeprefix(file) if file else place for place in origins[1 : 1 + SHOWN_PLACES]]
    more = len(origins) - 1 - len(shown)
    return f"also at {', '.join(shown)}{f' and {more:,} more' if more else ''}"


def _headline(wrong: str) -> str:
    """The first clause of a sentence, short enough to head a count."""
    clause = re.split(r";|: ", wrong.replace("\n", " "), maxsplit=1)[0].strip()
    return f"bad: {clause if len(clause) <= 60 else clause[:59] + '…'}"
