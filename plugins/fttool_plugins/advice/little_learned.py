"""`little-learned`: rows of which nearly all tokens are read, and few are learned."""

from __future__ import annotations

from typing import Any

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS

SHARE = 0.05
"""Of all tokens, below which the rule speaks."""


def judge(ctx: AdviceContext) -> Advice | None:
    """Where less than `SHARE` of the training tokens is learned, of a task that learns tokens."""
    train: Any = ctx.prepared.rows.train
    tokens, learned = len(train.tokens), train.label_tokens
    if ctx.recipe.task.learns != "token" or learned >= SHARE * tokens:
        return None
    return Advice(
        happens=(
            f"{learned:,} of {tokens:,} training tokens ({learned / tokens:.1%}) are learned: for each of them "
            f"{tokens / learned:,.0f} are computed"
        ),
        remedy="shorten what is only read, such as a system prompt that all rows repeat; fttool preview shows both",
        source=f"{DOCS}#little-learned",
        key=("masking",),
        figures={"tokens": tokens, "learned": learned},
    )


rule = AdviceRule(judge=judge, needs="run")
