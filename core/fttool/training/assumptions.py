"""What batches assume of a model: that a row has the same losses alone, padded beside longer rows and in one sequence
with others, and that no token is seen before its turn where a task predicts the next one.

Some models break this in silence: they accept position ids and attend across rows, carry a state from one row into the
next, or look ahead. No list of architectures says which, and a signature proves nothing. So a few rows of the run, cut
short, go through its own collator, score and kernels.

The logits of one row are compared in two ways:

- *The same shapes, other contents*: its neighbours, or the tokens behind it, are exchanged for others. Each product is
  then made of the same numbers in the same order, so the logits are equal to the last bit in any number format. Only
  a mixture of experts may sort its tokens into other products; what that makes is measured by exchanging rows that are
  in other sequences. Allowed are `NOISE` times that, and `EXACT` roundings of float32.
- *Other shapes, the same row*: alone, padded, packed. Kernels then sum in another order. Allowed are `ROUNDINGS`
  roundings of the number format.

A rounding is the format's epsilon times the size of the row's logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch

from fttool.errors import Problem
from fttool.families import Encoded, Level
from fttool.training.probe import Probe, Said, Uncomputed, exchanged, joined, labelled
from fttool.training.proof import Finding, Incomparable

EXACT = 32
"""Roundings of float32 by which logits may differ that are made of the same products."""
NOISE = 8
"""Times the measured noise by which they may differ."""
ROUNDINGS, ROUNDINGS_OF_16_BITS = 256, 8
"""Kernels of 16 bits keep sums in 32 and round each result once; in other formats a sum of thousands of products is
rounded in the format itself."""
SINGLE = torch.finfo(torch.float32).eps

APART = 'say batching = "bucketed"'
BY_ITSELF = "say run.micro_batch = 1 and evaluation.micro_batch = 1, so that each row goes through the model by itself"
SHORTER = "lower batching.max_length: the model may have no positions for so many tokens"
CAUSAL = 'take a causal model (an encoder is one where its config says is_decoder), or task = "classification"'


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
    """`row`: the model says one thing of a whole row."""
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


def rounding(formats: Iterable[torch.dtype]) -> float:
    """What is allowed of logits of size 1 where shapes differ, in the coarsest of these formats."""
    return max(
        (ROUNDINGS_OF_16_BITS if torch.finfo(one).bits <= 16 else ROUNDINGS) * torch.finfo(one).eps for one in formats
    )


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
        several = self.assumed.shape.sequences > 1
        claim = "what another row before it, in one row with it, makes of a row"
        yield Finding("context", claim, self.context, math.inf, Problem("no context can be read"))
        if self.assumed.causal:
            yield self.later()
        if several:
            yield from self.padded()
        if self.assumed.shape.rows > 1:
            yield from self.packed()

    def later(self) -> Finding:
        """Exchange the last third of the row."""
        since = max(1, len(self.row.input_ids) * 2 // 3)
        changed = self.other(self.row, since)
        return self._found(
            "later",
            "a later token changes no earlier logit",
            self.same_shapes,
            Problem(f"{self.model} sees the tokens that it is to predict", hint=CAUSAL, key=("model", "source")),
            lambda: self.alone.logits_differ(self.probe.among([[changed]], changed), since),
        )

    def padded(self) -> Iterator[Finding]:
        """Beside a longer row in a sequence of its own."""
        hint, key = BY_ITSELF, ("run", "micro_batch")
        yield self._found(
            "beside",
            "a row of another sequence changes none",
            self.other_shapes,
            Problem(f"in {self.model}, rows of a micro-batch see each other", hint=hint, key=key),
            self._exchanged,
        )
        yield self._found(
            "padded",
            "a row padded beside a longer one is as it is alone",
            self.other_shapes,
            Problem(f"in {self.model}, padding changes a row", hint=hint, key=key),
            lambda: self._from_alone(self.beside),
        )

    def packed(self) -> Iterator[Finding]:
        """Behind another row in its sequence, and behind other sequences where there are any."""
        first, second, third = self.probe.short[1:4]
        before = [[first, second]] if self.assumed.shape.sequences > 1 else []

        def behind(change: Callable[[Encoded], Encoded]) -> Said:
            others = [[change(one) for one in some] for some in before]
            return self.probe.among([*others, [change(third), self.row]], self.row)

        hint, key = APART, ("batching",)
        yield self._found(
            "neighbours",
            "other rows of its sequence change none",
            self.same_shapes,
            Problem(f"in {self.model}, packed rows see each other", hint=hint, key=key),
            lambda: behind(lambda one: one).logits_differ(behind(self.other)),
        )
        yield self._found(
            "packed",
            "a packed row is as it is alone",
            self.other_shapes,
            Problem(f"in {self.model}, a packed row is not what it is alone", hint=hint, key=key),
            lambda: self._from_alone(behind(lambda one: one)),
        )

    # -- what a row's class is told from --

    def texts(self) -> Iterator[Finding]:
        """Of a task that says one thing of a whole row: padded beside a longer one."""
        if self.assumed.shape.sequences < 2:
            return
        short, long = self.probe.whole
        alone = self.probe.ask([[short]])
        yield self._found(
            "padded",
            "a row padded beside a longer one is as it is alone",
            rounding(self.assumed.formats) * alone.size,
            Problem(f"in {self.model}, padding changes a row", hint=BY_ITSELF, key=("run", "micro_batch")),
            lambda: alone.logits_differ(self.probe.ask([[short], [long]]), first=1),
        )

    # -- any --

    def longest(self) -> Finding:
        """The longest sequence of the run goes through the model, as far as its table of positions reaches."""
        *before, last = self.assumed.shape.longest
        last = replace(last, labels=[-100] * (len(last.labels) - 1) + last.input_ids[-1:])
        length = sum(len(row.input_ids) for row in self.assumed.shape.longest)
        message, hint = f"{self.model} cannot compute the longest sequence, of {length:,} tokens", SHORTER

        def compute() -> float:
            self.probe.ask([[*(labelled(row, False) for row in before), last]])
            return 0.0

        problem = Problem(message, hint=hint, key=("batching", "max_length"))
        return self._found("longest", f"a sequence of {length:,} tokens can be computed", 0.0, problem, compute)

    # -- the row, and how far from it is far --

    @property
    def model(self) -> str:
        """The model's class."""
        return type(getattr(self.probe.model, "module", self.probe.model)).__name__

    @cached_property
    def row(self) -> Encoded:
        """The row that is compared."""
        return self.probe.short[0]

    @cached_property
    def alone(self) -> Said:
        """What is said of it by itself; what goes wrong here is no matter of company, and comes through."""
        try:
            return self.probe.among([[self.row]], self.row)
        except Uncomputed as uncomputed:
            raise cast("Exception", uncomputed.__cause__) from None

    @cached_property
    def longer(self) -> Encoded:
        """A longer row; where there is one only, which the row itself is the beginning of, with other tokens."""
        longer = [one for one in self.probe.long[1:] if len(one.input_ids) > len(self.row.input_ids)]
        return longer[0] if longer else self.other(self.probe.long[0])

    @cached_property
    def beside(self) -> Said:
        """And beside a longer row in a sequence of its own."""
        return self._among(self.longer)

    def _among(self, other: Encoded) -> Said:
        return self.probe.among([[self.row], [other]], self.row)

    def _exchanged(self) -> float:
        return self.beside.logits_differ(self._among(self.other(self.longer)))

    @cached_property
    def noise(self) -> float:
        """What other contents of other sequences make of its logits; 0 where the model takes one sequence only."""
        try:
            return self._exchanged()
        except Uncomputed:
            return 0.0

    @cached_property
    def context(self) -> float:
        """What another row before it makes of its logits, where both are one row: so large is what mixing does."""
        return self.alone.logits_differ(self.probe.ask([[joined(self.probe.short[1], self.row)]]))

    def other(self, row: Encoded, since: int = 0) -> Encoded:
        """A row of the same length with other tokens from `since` on."""
        return exchanged(row, self.probe.long, since)

    @property
    def same_shapes(self) -> float:
        """What is allowed where only contents are others."""
        return EXACT * SINGLE * self.alone.size + NOISE * self.noise

    @property
    def other_shapes(self) -> float:
        """What is allowed where shapes are others, of logits and of the losses that are made of them in float32."""
        return rounding(self.assumed.formats) * self.alone.size + EXACT * SINGLE * float(self.alone.losses_N.max())

    def _from_alone(self, said: Said) -> float:
        return max(self.alone.logits_differ(said), self.alone.losses_differ(said))

    def _found(self, name: str, claim: str, allowed: float, problem: Problem, ask: Callable[[], float]) -> Finding:
        """A comparison; `problem` is completed with its figures, or with what the model raised."""
        try:
            difference = ask()
            figures = f"logits differ by {difference:.2g}, of which rounding makes at most {allowed:.2g}"
        except Uncomputed as uncomputed:
            difference, figures = math.inf, str(uncomputed)
        return Finding(name, claim, difference, allowed, replace(problem, message=f"{problem.message}: {figures}"))
