"""`replay`: a constant share of general rows among the training rows, so that what they stand for is not forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Mixing, MixingContext, Problem, Recipe, RowOrder
from fttool_plugins.mixing.interleave import Interleaved, weights


class Replay(Mixing):
    """Mix a share of the rows of `[[data.general]]` into the training rows, constant through the run.

    General rows represent what the model knew. How many it takes depends on how far the new rows are from them:
    Ibrahim et al. (2024, arXiv 2403.08763) need 1% to 5% for a weak shift and about 25% for a strong one, of tokens, in
    continued pre-training.

    The share holds from each row to the next: over any stretch of the run it is off by at most one row (`by = "rows"`),
    or by at most the tokens of the longest row (`by = "tokens"`). All training rows form one pass after another, and so
    do all general rows, each pass shuffled anew. An epoch is as long as one pass over the training rows and the general
    rows that go with it: in rows up to rounding, in tokens as many rows as the mean lengths make of it.

    Batching may move rows: `padded` keeps their order, so every update has its share up to that bound; `bucketed` sorts
    within pools of updates, so it holds at the end of each pool, and with `pool = 1` of each update.

    Use it against forgetting wherever rows like those of the pre-training can be had: in docs/studies/forgetting.md it
    gained most of all and forgot little. Cost: the share of each update that does not teach the new task.
    """

    name: Literal["replay"] = "replay"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """General rows, as a share of all rows that are seen; 0.05 is one in twenty."""
    by: Literal["rows", "tokens"] = "rows"
    """What the share is of: rows, or tokens. General rows are often longer, and then these differ much."""

    @property
    @override
    def uses_general(self) -> bool:
        return True

    @property
    @override
    def same_rows(self) -> bool:
        """Epochs see other general rows, or some of them again."""
        return False

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        if not recipe.data.general:
            hint = "add [[data.general]] with rows that represent what the model knew"
            yield Problem("mixing 'replay' has no general rows to replay", hint=hint, key=("mixing",))

    @override
    def build(self, ctx: MixingContext) -> RowOrder:
        trained, every = sum(ctx.sizes), sum(ctx.sizes) + sum(ctx.general_sizes)
        lengths = ctx.lengths if self.by == "tokens" else None
        general, training = weights([self.share, 1.0])
        training -= general
        return Interleaved(
            datasets=[range(trained), range(trained, every)],
            weight=[training, general],
            length=trained + replayed(trained, every - trained, general / training, lengths),
            seed=ctx.seed,
            lengths=lengths,
        )


def replayed(trained: int, general: int, odds: float, lengths: Sequence[int] | None) -> int:
    """General rows that go with one pass over `trained` rows, at `odds` of share / (1 − share)."""
    if lengths is None:
        return round(trained * odds)
    return round(sum(lengths[:trained]) * odds / (sum(lengths[trained:]) / general))
