"""Rows of which none is left: dropped by filters, by what is measured, by their length, or by their own marks."""

from __future__ import annotations

from fttool.errors import DataError, Problem
from fttool.rows.datasets import ALL_MARKED, MARKED, MARKS_HINT
from fttool.rows.rows import Rows


def refuse_nothing_left(rows: Rows, has_eval: bool) -> None:
    """Raise `DataError` where no row is left to learn from, of a general or retention dataset, or to evaluate where the
    recipe does (`has_eval`).
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows.dropped.most_common())
    dropped = f" (dropped: {reasons})" if reasons else ""
    if not len(rows.train):
        hint = "raise batching.max_length, lower data.eval_share, or loosen the filters: whichever drops them"
        hint = MARKS_HINT if rows.dropped and rows.dropped.keys() <= {MARKED, ALL_MARKED} else hint
        raise DataError(Problem(f"no training row is left{dropped}", hint=hint, key=("data", "train")))
    if has_eval and not len(rows.eval):
        hint = "raise data.eval_share, or add [[data.eval]]"
        raise DataError(Problem(f"no evaluation row is left{dropped}", hint=hint, key=("data", "eval_share")))
    for part, datasets in (("general", rows.general), ("retention", rows.retention)):
        for index, (name, encoded) in enumerate(datasets.items()):
            if not len(encoded):
                message = f"no row of the {part} dataset '{name}' is left{dropped}"
                raise DataError(Problem(message, hint="give it other rows", key=("data", part, index)))
