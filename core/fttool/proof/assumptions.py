"""What batches assume of a model: that a row has the same losses alone, padded beside longer rows and in one sequence
with others, and that no token is seen before its turn where a task predicts the next one.

Some models break this in silence: they accept position ids and attend across rows, carry a state from one row into the
next, or look ahead. No list of architectures says which, and a signature proves nothing. So a few rows of the run, cut
short, go through its own collator, score and kernels.

The logits of one row are compared in two ways:

- *The same shapes, other contents*: its neighbours, or the tokens after it, are exchanged for others. Each product is
  then made of the same numbers in the same order, so the logits are equal to the last bit in any number format. Only
  a mixture of experts may sort its tokens into other products; what that makes is measured by exchanging rows that are
  in other sequences. Allowed are `NOISE` times that, and `EXACT` roundings of float32.
- *Other shapes, the same row*: alone, padded, packed, in the longest sequence. Kernels then sum in another order.
  Allowed are `ROUNDINGS` roundings of the number format.

A rounding is the format's epsilon times the size of the row's logits. Where even a row of other tokens makes no more
than is allowed, nothing could be seen of a fault, and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch

from fttool.contracts.batches import Batching
from fttool.contracts.rows import Encoded
from fttool.contracts.strategy import Level
from fttool.errors import Problem
from fttool.proof.probe import LONGEST, Probe, Said, Uncomputed, beginning, exchanged, joined, labelled
from fttool.training.proof import Finding, Incomparable
from fttool.training.rounding import rounding
from fttool.training.shards import class_of

EXACT = 32
"""Roundings of float32 by which logits may differ that are made of the same products."""
NOISE = 8
"""Times the measured noise by which they may differ."""
SINGLE = torch.finfo(torch.float32).eps

APART = f'set batching = "{Batching.place.default}"'
BY_ITSELF = "set run.micro_batch = 1 and evaluation.micro_batch = 1, so that each row goes through the model by itself"
SHORTER = "lower batching.max_length: the model may have no positions for so many tokens"
MICRO_BATCH, LENGTH = ("run", "micro_batch"), ("batching", "max_length")
CAUSAL = (
    "take a causal model (an encoder is one where its config says is_decoder), or a task that predicts no tokens: "
    "`fttool plugins --family task` lists them"
)

IMPLIED: Mapping[str, tuple[str, ...]] = {
    "beside": ("later",),
    "padded": ("later", "beside"),
    "neighbours": ("later",),
    "packed": ("later", "beside", "neighbours"),
    "longest": ("later", "beside", "padded", "neighbours", "packed"),
}
"""Comparison → those that look for a part of the same: what these find, it finds again."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the micro-batches of a run are made of."""

    sequences: int
    """In the largest one."""
    rows: int
    """That share a sequence, at most."""
    longest: Sequence[Encoded]
    """The rows of the longest sequence."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What a run assumes of its model."""

    level: Level
    """`row`: the model predicts one thing per row."""
    causal: bool
    """No token is seen before its turn."""
    shape: Shape
    formats: frozenset[torch.dtype]
    """Of the weights, and of what is computed from them."""


def comparisons(probe: Probe, assumed: Assumed) -> Iterator[Finding]:
    """Those that a run needs which assumes this."""
    compared = _Compared(probe, assumed)
    if assumed.level == "row":
        yield from compared.texts()
    else:
        yield from compared.tokens()
    yield compared.longest()


@dataclass(frozen=True)
class _Compared:
    """A row of the probe among others, against the same row by itself."""

    probe: Probe
    assumed: Assumed

    # -- what a row's tokens are predicted from --

    def tokens(self) -> Iterator[Finding]:
        """Of a task that predicts tokens."""
        if not self.alone.losses_N.isfinite().all():
            raise Incomparable("a row's losses are not finite, so nothing can be compared")
        yield self._context("what a foreign row makes of a row, where both are made one")
        if self.assumed.causal:
            yield self.later()
        if self.assumed.shape.sequences > 1:
            yield from self.padded()
        if self.assumed.shape.rows > 1:
            yield from self.packed()

    def later(self) -> Finding:
        """Exchange the last third of the row, from an odd place on: where tokens see their block, it mostly begins at
        an even one.
        """
        since = _odd(len(self.row.input_ids) * 2 // 3)
        changed = self.other(self.row, since)
        return self._same_shapes(
            "later",
            "a later token changes no earlier logit",
            Problem(f"{self.model} sees the tokens that it is to predict", hint=CAUSAL, key=("model", "source")),
            lambda: self.alone.logits_differ(self.probe.among([[changed]], changed), since),
        )

    def padded(self) -> Iterator[Finding]:
        """Beside a longer row in a sequence of its own."""
        problem = Problem(f"in {self.model}, rows of a micro-batch see each other", hint=BY_ITSELF, key=MICRO_BATCH)
        yield self._other_shapes("beside", "a row of another sequence changes none", problem, lambda: self.exchange)
        yield self._padded(lambda: self._from_alone(self.beside))

    def packed(self) -> Iterator[Finding]:
        """After another row in its sequence, and after other sequences where there are any."""
        yield self._same_shapes(
            "neighbours",
            "other rows of its sequence change none",
            Problem(f"in {self.model}, packed rows see each other", hint=APART, key=("batching",)),
            lambda: self.behind.logits_differ(self._behind(self.other)),
        )
        yield self._other_shapes(
            "packed",
            "a packed row gives the logits it gives alone",
            Problem(
                f"in {self.model}, a packed row gives other logits than it gives alone", hint=APART, key=("batching",)
            ),
            lambda: self._from_alone(self.behind),
        )

    # -- what a row's class is told from --

    def texts(self) -> Iterator[Finding]:
        """Of a task that predicts one thing per row: padded beside a longer one."""
        if self.assumed.shape.sequences > 1:
            yield self._context("what other tokens make of a row")
            told = len(self.alone.losses_N)
            yield self._padded(lambda: self.alone.logits_differ(self._among(self.longer), first=told))

    def _padded(self, ask: Callable[[], float]) -> Finding:
        problem = Problem(f"in {self.model}, padding changes a row", hint=BY_ITSELF, key=MICRO_BATCH)
        return self._other_shapes(
            "padded", "a row padded beside a longer one gives the logits it gives alone", problem, ask
        )

    # -- any --

    def longest(self) -> Finding:
        """The longest sequence of the run goes through the model, as far as its table of positions reaches. Where
        tokens are predicted, its first row and its last begin as they do alone, whatever is far from there.
        """
        rows = self.assumed.shape.longest
        length = sum(len(row.input_ids) for row in rows)
        ends = [*dict.fromkeys((0, len(rows) - 1))]
        within = [labelled(row, LONGEST if place in ends else 0) for place, row in enumerate(rows)]
        try:
            said = self.probe.ask([within])
        except Uncomputed as reason:
            message = f"{self.model} cannot compute the longest sequence, of {length:,} tokens: {reason}"
            return Finding("longest", _computed(length), math.inf, 0.0, Problem(message, hint=SHORTER, key=LENGTH))
        if self.assumed.level == "row" or not self.assumed.causal:
            return Finding("longest", _computed(length), 0.0, 0.0, Problem(_computed(length)))
        return self._far(within, ends, said)

    def _far(self, within: Sequence[Encoded], ends: Sequence[int], said: Said) -> Finding:
        """Look at the beginnings of those rows of a sequence that are its `ends`, of which the model `said` this."""
        beginnings = [beginning(within[end], LONGEST) for end in ends]
        length = sum(len(row.input_ids) for row in within)
        claim = f"rows in a sequence of {length:,} tokens give the logits they give alone"
        hint = APART if len(within) > 1 else CAUSAL
        problem = Problem(f"in {self.model}, tokens far from each other mix", hint=hint, key=("batching",))

        def from_alone() -> float:
            alone = [self._alone(labelled(row)) for row in beginnings]
            return max(
                reference.logits_differ(part) for reference, part in zip(alone, said.parts(beginnings), strict=True)
            )

        def from_others() -> float:
            differences: list[float] = []
            for index, end in enumerate(ends):
                others = [self.other(row, LONGEST if place == end else 0) for place, row in enumerate(within)]
                ours, theirs = (
                    [*predictions.parts(beginnings)][index] for predictions in (said, self.probe.ask([others]))
                )
                differences.append(ours.logits_differ(theirs))
            return max(differences)

        finding = self._other_shapes("longest", claim, problem, from_alone)
        # Where frequencies of positions depend on a sequence's length, only what contents make of a row is a fault.
        return finding if finding.holds else self._same_shapes("longest", claim, problem, from_others)

    # -- the row, and how far from it is far --

    @property
    def model(self) -> str:
        """The model's class."""
        return class_of(self.probe.model)

    @cached_property
    def row(self) -> Encoded:
        """The row that is compared."""
        return self.probe.uncut[0] if self.assumed.level == "row" else self.probe.short[0]

    @cached_property
    def alone(self) -> Said:
        """What is said of it by itself."""
        return self._alone(self.row if self.assumed.level == "row" else labelled(self.row))

    @cached_property
    def longer(self) -> Encoded:
        """A longer row; where there is one only, which the row itself is the beginning of, with other tokens."""
        if self.assumed.level == "row":
            return self.probe.uncut[1]
        longer = [candidate for candidate in self.probe.long[1:] if len(candidate.input_ids) > len(self.row.input_ids)]
        return longer[0] if longer else self.other(self.probe.long[0])

    @cached_property
    def beside(self) -> Said:
        """And beside a longer row in a sequence of its own."""
        return self._among(self.longer)

    @cached_property
    def behind(self) -> Said:
        """And packed after another row."""
        return self._behind(lambda row: row)

    def _behind(self, change: Callable[[Encoded], Encoded]) -> Said:
        first, second, third = (change(row) for row in self.probe.short[1:4])
        before = [[first, second]] if self.assumed.shape.sequences > 1 else []
        return self.probe.among([*before, [third, self.row]], self.row)

    def _among(self, other: Encoded) -> Said:
        if self.assumed.level == "row":
            return self.probe.ask([[self.row], [other]])
        return self.probe.among([[self.row], [other]], self.row)

    def _alone(self, row: Encoded) -> Said:
        """What goes wrong here does not depend on the other rows, and is raised."""
        try:
            return self.probe.ask([[row]])
        except Uncomputed as uncomputed:
            raise cast("Exception", uncomputed.__cause__) from None

    @cached_property
    def exchange(self) -> float:
        """What other contents of another sequence make of its logits."""
        return self.beside.logits_differ(self._among(self.other(self.longer)))

    @cached_property
    def context(self) -> float:
        """What other tokens make of its logits: so large is what a fault does."""
        if self.assumed.level == "row":
            return self.alone.logits_differ(self._alone(self.longer), first=1)
        return self.alone.logits_differ(self._alone(joined(self.probe.short[1], self.row)))

    def other(self, row: Encoded, since: int = 0) -> Encoded:
        """A row of the same length with other tokens from `since` on."""
        return exchanged(row, self.probe.long, since)

    # -- how far is far --

    def noise(self) -> float:
        """What a change that cannot matter makes of equal shapes, as far as it is allowed to: a mixture of experts
        sorts its tokens into other products. 0 where the model takes one sequence only.
        """
        try:
            return min(NOISE * self.exchange, self.other_shapes)
        except Uncomputed:
            return 0.0

    @cached_property
    def other_shapes(self) -> float:
        """What is allowed where shapes are others, of logits and of the losses that are made of them in float32."""
        loss_rounding = EXACT * SINGLE * float(self.alone.losses_N.max()) if self.assumed.level == "token" else 0.0
        return rounding(self.assumed.formats) * self.alone.size + loss_rounding

    def _from_alone(self, said: Said) -> float:
        return max(self.alone.logits_differ(said), self.alone.losses_differ(said))

    # -- what is found --

    def _context(self, claim: str) -> Finding:
        return Finding("context", claim, self.context, math.inf, Problem("no context can be read"))

    def _same_shapes(self, name: str, claim: str, problem: Problem, ask: Callable[[], float]) -> Finding:
        exact = EXACT * SINGLE * self.alone.size
        return self._found(
            name, claim, problem, ask, lambda difference: exact if difference <= exact else exact + self.noise()
        )

    def _other_shapes(self, name: str, claim: str, problem: Problem, ask: Callable[[], float]) -> Finding:
        return self._found(name, claim, problem, ask, lambda _: self.other_shapes)

    def _found(
        self, name: str, claim: str, problem: Problem, ask: Callable[[], float], allowed_of: Callable[[float], float]
    ) -> Finding:
        """A comparison; `problem` is completed with its figures, or with what the model raised."""
        try:
            difference = ask()
            allowed = allowed_of(difference)
            figures = f"logits differ by {difference:.2g}, while rounding accounts for at most {allowed:.2g}"
        except Uncomputed as uncomputed:
            difference, allowed, figures = math.inf, 0.0, str(uncomputed)
        problem = replace(problem, message=f"{problem.message}: {figures}")
        shown = not self.context <= allowed
        return Finding(name, claim, difference, allowed, problem, implied_by=IMPLIED.get(name, ()), shown=shown)


def _computed(length: int) -> str:
    return f"a sequence of {length:,} tokens can be computed"


def _odd(place: int) -> int:
    """The place, or the one before it."""
    return max(1, place - (place % 2 == 0))
