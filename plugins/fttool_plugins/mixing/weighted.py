"""`weighted`: every training dataset has the share that the recipe gives it, all through the run."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import DataError, Mixing, MixingContext, Problem, Recipe, RowOrder, did_you_mean
from fttool_plugins.mixing.interleave import Interleaved, weights

Share = Annotated[float, Field(gt=0, le=1)]
"""A share of the whole, above 0."""


class Weighted(Mixing):
    """Each training dataset has its share of the rows, or of the tokens, whatever its size.

    The share holds from each row to the next, not on average: at any row of the run a dataset has strayed from it by at
    most one row (`by = "rows"`), or by at most the tokens of the longest row (`by = "tokens"`); over any stretch of the
    run by as much where there are two datasets, by less than twice that where there are more. A dataset is gone through
    in passes, each shuffled anew, as often as its share asks for: a small one with a large share is seen again and
    again, which `--dry-run` shows. An epoch is as many rows as the training datasets hold together, so a run is as long
    as it would be with `concatenate`.

    Batching may move rows: `padded` keeps their order, so every update has its shares up to that bound; `bucketed`
    sorts within pools of updates, so they hold at the end of each pool, and with `pool = 1` of each update.

    Use it where a small dataset must not drown in a large one. Cost: rows of small datasets come several times an
    epoch, and may be learned by heart.
    """

    name: Literal["weighted"] = "weighted"
    shares: Annotated[dict[str, Share], Field(min_length=1, examples=[{"qa": 0.7, "code": 0.3}])]
    """The share of each training dataset by its name; together 1, e.g. `{qa = 0.7, code = 0.3}`."""
    by: Literal["rows", "tokens"] = "rows"
    """What is shared out: rows, or tokens. Rows of unlike length make these differ."""

    @property
    @override
    def same_rows(self) -> bool:
        """An epoch sees some rows more often than others."""
        return False

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Every training dataset has a share, every share a dataset, and together they are 1."""
        names = [table.dataset for table in recipe.data.train]
        key = ("mixing", "shares")
        for name in self.shares:
            if name not in names:
                message = f"mixing.shares names '{name}', which is not a training dataset"
                yield Problem(message, hint=did_you_mean(name, names), key=(*key, name))
        for name in names:
            if name not in self.shares:
                message = f"mixing.shares gives the training dataset '{name}' no share"
                yield Problem(message, hint=f"add {name}, or take its [[data.train]] out", key=key)
        total = sum(self.shares.values())
        if abs(total - 1) > 1e-6:
            message = f"mixing.shares add up to {total:.6g}, not to 1"
            yield Problem(message, hint="shares are parts of the whole, e.g. 0.7 and 0.3", key=key)

    @override
    def build(self, ctx: MixingContext) -> RowOrder:
        for index, (name, size) in enumerate(zip(ctx.names, ctx.sizes, strict=True)):
            if not size:
                message = f"no row of the training dataset '{name}' is left, and it has a share of {self.shares[name]}"
                raise DataError(Problem(message, hint="give it other rows", key=("data", "train", index)))
        ends = list(accumulate(ctx.sizes))
        return Interleaved(
            datasets=[range(end - size, end) for size, end in zip(ctx.sizes, ends, strict=True)],
            weight=weights([self.shares[name] for name in ctx.names]),
            length=ends[-1],
            seed=ctx.seed,
            lengths=ctx.lengths if self.by == "tokens" else None,
        )
