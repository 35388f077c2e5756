"""`cut-rows`: what `max_length` takes of the training rows, in tokens."""

from __future__ import annotations

from typing import Any

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS

SHARE = 0.01
"""Of all tokens, from which the rule speaks."""
WHOLE = 0.99
"""Share of the rows that the proposed length leaves whole."""
STEP = 64
"""The proposed length is a multiple of it."""


def judge(ctx: AdviceContext) -> Advice | None:
    """Where more than `SHARE` of the training rows' tokens are cut off."""
    train: Any = ctx.prepared.rows.train
    cut = [int(tokens) for chunk in train.cut.chunks() for tokens in chunk]
    gone, limit = sum(cut), ctx.recipe.batching.max_length
    total, rows = len(train.tokens) + gone, sum(map(bool, cut))
    if gone < SHARE * total:
        return None
    whole = sorted(length + less for length, less in zip(train.lengths, cut, strict=True))
    enough = whole[min(len(whole) - 1, int(WHOLE * len(whole)))]
    return Advice(
        happens=(
            f"{gone:,} of {total:,} tokens ({gone / total:.0%}) of the training rows are cut at max_length = {limit}, "
            f"in {rows:,} of {len(cut):,} rows: nothing is learned of them, and answers end in mid-sentence"
        ),
        remedy=(
            f"batching.max_length = {-(-enough // STEP) * STEP} keeps {WHOLE:.0%} of the rows whole, if the model can "
            'take it; batching.too_long = "split" makes several rows of a long one'
        ),
        source=f"{DOCS}#cut-rows",
        key=("batching", "max_length"),
        figures={"tokens": total, "cut_tokens": gone, "rows": len(cut), "cut_rows": rows, "enough": enough},
    )


rule = AdviceRule(judge=judge, needs="run")
