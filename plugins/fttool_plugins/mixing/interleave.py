"""An endless order of rows in which every dataset keeps its share: not on average, but from each row to the next.

Drawing datasets at random gives a share that strays by √n. Here the next row comes from the dataset whose turn it is,
by the rule of worst-case fair queueing (WF²Q, Bennett & Zhang 1996, "WF²Q: Worst-case Fair Weighted Fair Queueing"): of
the datasets that are not ahead of their share, the one whose next row would be the first to end if all were served at
once, each at the rate of its share. With seen(d) what has been seen of dataset d, total = Σ seen, share(d), and cost 1
for each row, or its number of tokens:

    candidates   seen(d) ≤ share(d) · total
    next         the candidate with the smallest (seen(d) + cost(d's next row)) / share(d)

At every row of the order, seen(d) − share(d) · total lies between −L and (1 − share(d)) · L, with L the largest cost:
one row, or the tokens of the longest row. So over any stretch of a run a dataset strays from its share by less than
2 L, and by at most L where there are two datasets. With three, no order keeps every stretch within one row for all
shares (balanced words over three letters exist for few of them), so the 2 is not for want of trying.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction


def weights(shares: Sequence[float]) -> list[int]:
    """Whole numbers in the proportion of shares, as they are written: 0.7 and 0.3 give 7 and 3."""
    exact = [Fraction(repr(share)) for share in shares]
    denominator = math.lcm(*(fraction.denominator for fraction in exact))
    numbers = [int(fraction * denominator) for fraction in exact]
    divisor = math.gcd(*numbers)
    return [number // divisor for number in numbers]


def next_dataset(weight: Sequence[int]) -> Callable[[Sequence[int], int, Sequence[int]], int]:
    """A function from what was seen of each dataset, its sum, and the cost of each dataset's next row to whose turn it
    is. It is called once a row of the run, so it computes nothing twice."""
    total_weight, common = sum(weight), math.lcm(*weight)
    inverse = [common // number for number in weight]

    def choose(seen: Sequence[int], total: int, cost: Sequence[int]) -> int:
        chosen, earliest = -1, 0
        for d, share in enumerate(weight):
            if seen[d] * total_weight <= share * total:
                end = (seen[d] + cost[d]) * inverse[d]
                if chosen < 0 or end < earliest:
                    chosen, earliest = d, end
        return chosen

    return choose


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an epoch begins."""

    taken: tuple[int, ...]
    """Rows taken from each dataset before."""
    seen: tuple[int, ...]
    """The same as cost."""


@dataclass(frozen=True)
class Interleaved:
    """The order, cut into epochs of `length` rows; a call gives an epoch's row indices.

    An epoch goes on where the one before ended, also within the datasets: none of a dataset's rows is seen again before
    all of them were, and each pass over them is shuffled anew.
    """

    datasets: Sequence[range]
    """The row indices of each dataset."""
    weight: Sequence[int]
    """Their shares, as whole numbers."""
    length: int
    """Rows of an epoch."""
    seed: int
    lengths: Sequence[int] | None = None
    """Tokens of each row, where shares are of tokens; None where they are of rows."""
    _begins: list[_Place] = field(default_factory=list[_Place])
    """Where the epochs begin, as far as they are known: a resumed run asks for a later one first."""

    def __call__(self, epoch: int) -> list[int]:
        """The row indices of an epoch."""
        if not self._begins:
            self._begins.append(_Place((0,) * len(self.datasets), (0,) * len(self.datasets)))
        while True:
            nearest = min(epoch, len(self._begins) - 1)
            rows, end = self._walk(self._begins[nearest])
            if nearest + 1 == len(self._begins):
                self._begins.append(end)
            if nearest == epoch:
                return rows

    def _walk(self, begin: _Place) -> tuple[list[int], _Place]:
        """The rows of the epoch that begins there, and where the next one begins."""
        taken, seen, total = list(begin.taken), list(begin.seen), sum(begin.seen)
        choose = next_dataset(self.weight)
        passes = [self._pass(d, taken[d] // len(rows)) for d, rows in enumerate(self.datasets)]
        upcoming = [order[taken[d] % len(order)] for d, order in enumerate(passes)]
        cost = [self._cost(row) for row in upcoming]
        row_order: list[int] = []
        for _ in range(self.length):
            d = choose(seen, total, cost)
            row_order.append(upcoming[d])
            seen[d] += cost[d]
            total += cost[d]
            taken[d] += 1
            if taken[d] % len(passes[d]) == 0:
                passes[d] = self._pass(d, taken[d] // len(passes[d]))
            upcoming[d] = passes[d][taken[d] % len(passes[d])]
            cost[d] = self._cost(upcoming[d])
        return row_order, _Place(tuple(taken), tuple(seen))

    def _pass(self, dataset: int, number: int) -> list[int]:
        """A dataset's rows in the order of one pass over them."""
        order = list(self.datasets[dataset])
        random.Random(f"interleaved:{self.seed}:{dataset}:{number}").shuffle(order)
        return order

    def _cost(self, row: int) -> int:
        return 1 if self.lengths is None else self.lengths[row]
