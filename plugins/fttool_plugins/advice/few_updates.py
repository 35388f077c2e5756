"""`few-updates`: a run of so few updates that the schedule has no room."""

from __future__ import annotations

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS
from fttool_plugins.advice.large_update import ROWS

UPDATES = 10
SLOW = 0.1
"""Share of the peak rate below which an update hardly counts."""
STUDY = "On 96 rows in three epochs, 3 updates ended 0.60 above 36 in loss on evaluation rows"


def judge(ctx: AdviceContext) -> Advice | None:
    """Where the run has fewer updates than `UPDATES`, and they are not large, of which another rule speaks."""
    run = ctx.prepared
    updates: int = run.length.total_steps
    if updates >= UPDATES or ctx.recipe.global_batch > ROWS:
        return None
    slow = sum(run.update.factor(step) < SLOW for step in range(updates))
    return Advice(
        happens=f"{updates} updates in all, {slow} of them below a tenth of the rate, by the schedule. {STUDY}",
        remedy="a smaller run.global_batch, or more run.epochs: with a hundred updates a schedule has room",
        source=f"{DOCS}#few-updates",
        key=("schedule",),
        figures={"updates": updates, "below_a_tenth": slow},
    )


rule = AdviceRule(judge=judge, needs="run")
