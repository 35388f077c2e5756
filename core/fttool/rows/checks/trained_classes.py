"""Classes that a task cannot learn or measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fttool.errors import DataError
from fttool.rows.checks.bad import alike, mend
from fttool.rows.rows import Rows


def refuse_classes(rows: Rows, targets: Callable[[Sequence[tuple[str, ...]]], Any]) -> None:
    """Raise `DataError` for rows whose classes the task cannot learn or measure, alike ones together."""
    wrong: list[tuple[str, str]] = []
    for rows_of in (rows.train, rows.eval, *rows.general.values(), *rows.retention.values()):
        good: set[tuple[str, ...]] = set()
        for classes, origin in zip(rows_of.classes, rows_of.origins, strict=True):
            if classes is None or classes in good:
                continue
            try:
                targets([classes])
                good.add(classes)
            except ValueError as refused:
                wrong.append((origin, str(refused)))
    if wrong:
        problems = alike(wrong)
        raise DataError([*problems[:-1], replace(problems[-1], hint=mend(len(wrong)))])
