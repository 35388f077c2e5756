"""`long-run`: many passes over the rows, and nothing that ends them when they do harm."""

from __future__ import annotations

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool_plugins.advice import DOCS

EPOCHS = 5
STUDY = "After 12 epochs the loss on evaluation rows was 0.20 above that of the model that early stopping kept"


def judge(ctx: AdviceContext) -> Advice | None:
    """Where more than `EPOCHS` epochs are trained, and the last model is kept whatever the ones before it were."""
    evaluation, epochs = ctx.recipe.evaluation, ctx.recipe.run.epochs or 1
    if epochs <= EPOCHS or evaluation.early_stopping is not None or evaluation.best is not None:
        return None
    return Advice(
        happens=f"{epochs} epochs, and the model after the last one is kept, whether or not it is the best. {STUDY}",
        remedy='evaluation = {every = 100, metrics = ["loss"], best = "loss", early_stopping = 2}, on evaluation rows',
        source=f"{DOCS}#long-run",
        key=("run", "epochs"),
        figures={"epochs": epochs},
    )


rule = AdviceRule(judge=judge)
