"""`padding`: slots of micro-batches that hold no token, and take as long as those that do."""

from __future__ import annotations

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS

SHARE = 0.25
"""Of all slots, from which the rule speaks."""

BUCKETED = 'batching.name = "bucketed": rows of like length share an update'
SMALLER = "a larger batching.pool; or a smaller run.micro_batch, with run.global_batch as it is"


def judge(ctx: AdviceContext) -> Advice | None:
    """Where much of the first epoch's micro-batches is padding."""
    from fttool_plugins.verbs.estimate.workload import of_prepared

    epoch = of_prepared(ctx.prepared).epoch
    slots, empty = round(epoch.slots), round(epoch.slots - epoch.tokens)
    if empty < SHARE * slots:
        return None
    return Advice(
        happens=(
            f"{empty:,} of {slots:,} slots of an epoch ({empty / slots:.0%}) are padding, computed like tokens: "
            f"it takes about {slots / epoch.tokens:.1f} times what its tokens need"
        ),
        remedy=SMALLER if ctx.recipe.batching.id() == "bucketed" else BUCKETED,
        source=f"{DOCS}#padding",
        key=("batching",),
        figures={"slots": slots, "padding": empty},
    )


rule = AdviceRule(judge=judge, needs="run")
