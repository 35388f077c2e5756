"""Shares that hold at every row: proven over random sizes, shares and row lengths, at every prefix and every window."""

import random
from collections.abc import Sequence
from fractions import Fraction

import pytest

from fttool_plugins.mixing.interleave import Interleaved, next_dataset, weights


def order_of(
    sizes: Sequence[int], weight: Sequence[int], length: int, lengths: Sequence[int] | None = None, seed: int = 1
) -> Interleaved:
    ends = [sum(sizes[: d + 1]) for d in range(len(sizes))]
    datasets = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return Interleaved(datasets=datasets, weight=weight, length=length, seed=seed, lengths=lengths)


def deviations(rows: Sequence[int], order: Interleaved) -> list[list[Fraction]]:
    """seen(d) − share(d) · total of each dataset, before the first row and after each; exact."""
    whole = sum(order.weight)
    found: list[list[Fraction]] = []
    for dataset, weight in zip(order.datasets, order.weight, strict=True):
        met = total = 0
        found.append([Fraction(0)])
        for row in rows:
            cost = 1 if order.lengths is None else order.lengths[row]
            met, total = met + cost * (row in dataset), total + cost
            found[-1].append(met - Fraction(weight * total, whole))
    return found


def random_case(number: int) -> tuple[list[int], list[int], list[int]]:
    chance = random.Random(number)
    count = 2 + number % 5
    sizes = [chance.randint(1, 40) for _ in range(count)]
    weight = [chance.choice([1, 1, 2, 3, 7, 50, chance.randint(1, 1000)]) for _ in range(count)]
    lengths = [chance.choice([2, 3, 10, 500, chance.randint(2, 60)]) for _ in range(sum(sizes))]
    return sizes, weight, lengths


@pytest.mark.parametrize("by", ["rows", "tokens"])
@pytest.mark.parametrize("number", range(100))
def test_shares_hold_at_every_row_and_over_every_window(number: int, by: str) -> None:
    """Over four epochs, so over their borders too. A window's deviation is the difference of those at its ends, so the
    largest over all windows is the highest less the lowest."""
    sizes, weight, lengths = random_case(number)
    order = order_of(sizes, weight, sum(sizes), lengths if by == "tokens" else None)
    longest = max(lengths) if by == "tokens" else 1
    rows = [row for epoch in range(4) for row in order(epoch)]
    for at, share in zip(deviations(rows, order), weight, strict=True):
        assert min(at) >= -longest
        assert max(at) <= (1 - Fraction(share, sum(weight))) * longest
        assert max(at) - min(at) <= (longest if len(sizes) == 2 else 2 * longest)


def test_windows_are_counted_as_one_would_by_hand() -> None:
    """The same in small, with nothing clever: every window of every length, counted."""
    order = order_of((5, 50), (3, 7), 55)
    rows = [row for epoch in range(3) for row in order(epoch)]
    for start in range(len(rows)):
        for end in range(start, len(rows) + 1):
            count = sum(row < 5 for row in rows[start:end])
            assert abs(count - Fraction(3 * (end - start), 10)) <= 1


def test_drawing_at_random_would_fail_these_tests() -> None:
    chance = random.Random(0)
    order = order_of((50, 50), (1, 1), 100)
    rows = [chance.randrange(100) for _ in range(4000)]
    assert max(max(at) - min(at) for at in deviations(rows, order)) > 20


def test_a_dataset_is_gone_through_in_passes() -> None:
    """No row again before all were met, in the other order each time, over the borders of epochs."""
    order = order_of((7, 30), (1, 1), 37)
    rows = [row for epoch in range(6) for row in order(epoch)]
    small = [row for row in rows if row < 7]
    passes = [small[start : start + 7] for start in range(0, len(small) - 7, 7)]
    assert len(passes) > 10 and all(sorted(one) == list(range(7)) for one in passes)
    assert len({tuple(one) for one in passes}) > 8


def test_epochs_can_be_asked_for_in_any_order() -> None:
    sizes, weight, lengths = random_case(12)
    whole = [order_of(sizes, weight, 50, lengths)(epoch) for epoch in range(5)]
    one = order_of(sizes, weight, 50, lengths)
    assert [one(epoch) for epoch in (4, 0, 2, 2, 1, 3)] == [whole[epoch] for epoch in (4, 0, 2, 2, 1, 3)]
    assert whole != [order_of(sizes, weight, 50, lengths, seed=2)(epoch) for epoch in range(5)]


def test_the_order_is_pinned() -> None:
    """A resumed run on another machine or Python must meet the same rows."""
    order = order_of((2, 3), (1, 2), 6)
    assert [order(0), order(1)] == [[2, 0, 3, 4, 1, 2], [3, 0, 4, 2, 1, 3]]


def test_weights_are_shares_as_written() -> None:
    assert weights([0.7, 0.3]) == [7, 3]
    assert weights([0.1, 0.2, 0.7]) == [1, 2, 7]
    assert weights([0.333333, 0.666667]) == [333333, 666667]
    assert weights([1e-7, 1.0]) == [1, 10**7]


def test_whose_turn_it_is() -> None:
    """By hand: shares 1/2, 1/4, 1/4 of rows give A B A C; the one that is ahead of its share waits."""
    choose = next_dataset((2, 1, 1))
    met = [0, 0, 0]
    for expected in (0, 1, 0, 2):
        assert choose(met, sum(met), (1, 1, 1)) == expected
        met[expected] += 1
    choose = next_dataset((1, 1))
    assert choose((0, 0), 0, (90, 10)) == 1, "the row that would be the first to end"
    assert choose((0, 10), 10, (90, 10)) == 0, "the other is ahead of its share"
