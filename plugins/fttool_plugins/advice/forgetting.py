"""`forgetting`: a high rate on few rows, and nothing that keeps what the model knew."""

from __future__ import annotations

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS

RATE = 2e-4
"""From here on even a model of 2 million weights forgets in a few dozen updates; larger ones want lower rates."""
ROWS = 1_000
WHOLE = ("full", "gradual")
"""Freezing strategies that come to train all weights."""
STUDY = "At 5e-4 the loss on such rows rose by 0.42 in 36 updates, at 1e-4 by 0.03, with a quarter of replay by 0.10"


def judge(ctx: AdviceContext) -> Advice | None:
    """Where AdamW trains all weights of a language model at such a rate, without replay and without regularizers."""
    recipe, rows, rate = ctx.recipe, ctx.rows["train"], ctx.recipe.optimizer.lr
    kept = recipe.mixing.uses_general or recipe.regularizers or recipe.freezing.id() not in WHOLE
    if kept or recipe.task.learns != "token" or recipe.optimizer.id() != "adamw":
        return None
    if rows is None or rows >= ROWS or rate < RATE:
        return None
    return Advice(
        happens=f"a rate of {rate:g} on {rows:,} rows, and none stands for what the model knew: it forgets. {STUDY}",
        remedy='optimizer.lr = 1e-4; or [[data.general]] with mixing = {name = "replay", share = 0.25}',
        source=f"{DOCS}#forgetting",
        key=("optimizer", "lr"),
        figures={"lr": rate, "rows": rows},
    )


rule = AdviceRule(judge=judge, needs="rows")
