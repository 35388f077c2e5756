"""`large-update`: so many rows in each update that few updates are left."""

from __future__ import annotations

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS

ROWS = 256
UPDATES = 100
"""From so many on, a large update is a choice."""
STUDY = "Of 640 rows in two epochs, 4 updates of 320 ended 0.66 above 80 updates of 16 in loss on evaluation rows"


def judge(ctx: AdviceContext) -> Advice | None:
    """Where an update has more than `ROWS` rows, and the run fewer than `UPDATES` updates."""
    recipe, rows, train = ctx.recipe, ctx.recipe.global_batch, ctx.rows["train"]
    if rows <= ROWS or train is None:
        return None
    if ctx.prepared is not None:
        updates: int = ctx.prepared.length.total_steps
    else:
        updates = recipe.run.max_steps or (recipe.run.epochs or 1) * -(-train // rows)
    if updates >= UPDATES:
        return None
    return Advice(
        happens=f"updates of {rows:,} rows: {train:,} rows make {updates:,} of them in the whole run. {STUDY}",
        remedy="run.global_batch = 16 to 64; a rate that grows with the root of the batch makes up for a part",
        source=f"{DOCS}#large-update",
        key=("run", "global_batch"),
        figures={"rows_per_update": rows, "updates": updates},
    )


rule = AdviceRule(judge=judge, needs="rows")
