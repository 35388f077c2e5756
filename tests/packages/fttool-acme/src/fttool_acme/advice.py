"""`acme-last-update`: rows that do not fill the last update of an epoch, and weigh more there than elsewhere."""

from __future__ import annotations

from fttool.api import Advice, AdviceContext, AdviceRule

SMALL = 0.5
"""Share of an update's rows below which the last one is small."""


def judge(ctx: AdviceContext) -> Advice | None:
    """Where an epoch ends with an update of few rows: the loss is their mean, whatever their number."""
    rows, each = ctx.rows["train"], ctx.recipe.global_batch
    last = rows % each if rows is not None else 0
    if not 0 < last < SMALL * each:
        return None
    return Advice(
        happens=f"the last update of an epoch has {last} of {each} rows, which weigh {each / last:.1f} times as much",
        remedy=f"a run.global_batch that divides {rows:,} rows, or nearly",
        source="by count",
        key=("run", "global_batch"),
        figures={"rows": last},
    )


rule = AdviceRule(judge=judge, needs="rows")
