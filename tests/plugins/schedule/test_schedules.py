"""The built-in schedules against reference values, at their edges, and against recipes they do not fit."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR

from fttool.api import RecipeError, Schedule, ScheduleContext
from fttool_plugins.schedule import fttool_strategies
from fttool_plugins.schedule.constant import Constant
from fttool_plugins.schedule.cosine import Cosine
from fttool_plugins.schedule.cosine_restarts import CosineRestarts
from fttool_plugins.schedule.exponential import Exponential
from fttool_plugins.schedule.inverse_sqrt import InverseSqrt
from fttool_plugins.schedule.linear import Linear
from fttool_plugins.schedule.polynomial import Polynomial
from fttool_plugins.schedule.slanted_triangular import SlantedTriangular
from fttool_plugins.schedule.wsd import WarmupStableDecay

PEAK = 2e-5
TO_THE_FLOOR = [Linear, Polynomial, Cosine, CosineRestarts, WarmupStableDecay]
FALLING = [*TO_THE_FLOOR, InverseSqrt, SlantedTriangular]
FROM_ZERO = [Constant, *TO_THE_FLOOR, InverseSqrt]
WARMED = [Constant, *FALLING]
EVERY = [*WARMED, Exponential]


def factors(schedule: Schedule, total: int, steps: range) -> list[float]:
    factor = schedule.build(ScheduleContext(total_steps=total, lr=PEAK))
    return [factor(step) for step in steps]


def recipe(max_steps: int | None = None, lr: float = PEAK) -> Any:
    return SimpleNamespace(run=SimpleNamespace(max_steps=max_steps), optimizer=SimpleNamespace(lr=lr))


def test_the_room_lists_them():
    assert {strategy.id() for strategy in fttool_strategies()} == {
        "constant",
        "linear",
        "polynomial",
        "cosine",
        "cosine-restarts",
        "slanted-triangular",
        "inverse-sqrt",
        "wsd",
        "exponential",
    }


# -- reference values: W = 2, N = 10, r = 0.1 ------------------------------------------------------------------

REFERENCE = {
    "constant": (Constant(warmup=2), [0, 0.5] + [1] * 9),
    "linear": (
        Linear(warmup=2, min_lr=0.1 * PEAK),
        [0, 0.5, 1, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1],
    ),
    "cosine": (
        Cosine(warmup=2, min_lr=0.1 * PEAK),
        [0, 0.5, 1, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802, 0.134254, 0.1],
    ),
    "polynomial": (
        Polynomial(warmup=2, min_lr=0.1 * PEAK, power=2.0),
        [0, 0.5, 1, 0.7890625, 0.60625, 0.4515625, 0.325, 0.2265625, 0.15625, 0.1140625, 0.1],
    ),
    "cosine-restarts": (
        CosineRestarts(warmup=2, min_lr=0.1 * PEAK, cycles=2),
        [0, 0.5, 1, 0.868198, 0.55, 0.231802, 1, 0.868198, 0.55, 0.231802, 0.1],
    ),
    "cosine-restarts-growing": (
        CosineRestarts(warmup=2, min_lr=0.1 * PEAK, first=3, multiplier=2),
        [0, 0.5, 1, 0.775, 0.325, 1, 0.939711, 0.775, 0.55, 0.325, 0.16028857],
    ),
    "slanted-triangular": (
        SlantedTriangular(warmup=2, ratio=10),
        [0.1, 0.55, 1, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1],
    ),
    "inverse-sqrt": (
        InverseSqrt(warmup=2, min_lr=0.5 * PEAK),
        [0, 0.5, 1, 0.816497, 0.707107, 0.632456, 0.577350, 0.534522, 0.5, 0.5, 0.5],
    ),
    "inverse-sqrt-timescale": (
        InverseSqrt(warmup=2, timescale=4),
        [0, 0.5, 1, 0.894427, 0.816497, 0.755929, 0.707107, 0.666667, 0.632456, 0.603023, 0.577350],
    ),
    "wsd-linear": (
        WarmupStableDecay(warmup=2, decay=4, min_lr=0.1 * PEAK, shape="linear"),
        [0, 0.5, 1, 1, 1, 1, 1, 0.775, 0.55, 0.325, 0.1],
    ),
    "wsd-cosine": (
        WarmupStableDecay(warmup=2, decay=4, min_lr=0.1 * PEAK, shape="cosine"),
        [0, 0.5, 1, 1, 1, 1, 1, 0.868198, 0.55, 0.231802, 0.1],
    ),
    "wsd-1-sqrt": (
        WarmupStableDecay(warmup=2, decay=4, min_lr=0.1 * PEAK),
        [0, 0.5, 1, 1, 1, 1, 1, 0.55, 0.363604, 0.220577, 0.1],
    ),
    "exponential": (
        Exponential(start=1e-9),
        [1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 1],
    ),
}
reference = pytest.mark.parametrize(("schedule", "expected"), REFERENCE.values(), ids=REFERENCE)


@reference
def test_reference_values(schedule, expected):
    assert factors(schedule, 10, range(11)) == pytest.approx(expected, abs=5e-7)


@reference
def test_a_share_means_the_same_as_its_steps(schedule, expected):
    given = schedule.model_dump(exclude_none=True)
    shares = {key: value / 10 for key, value in given.items() if key in ("warmup", "decay", "first")}
    assert factors(schedule.model_copy(update=shares), 10, range(11)) == pytest.approx(expected, abs=5e-7)


@reference
def test_the_rate_stays_where_it_is_past_the_end(schedule, expected):
    assert factors(schedule, 10, range(10, 40)) == pytest.approx([expected[-1]] * 30)


def test_shares_round_up():
    assert factors(Constant(warmup=0.11), 20, range(4)) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    # 0.1 of 30 is 3.0000000000000004 in floats, and still 3 steps
    assert factors(WarmupStableDecay(warmup=0, decay=0.1, shape="linear"), 30, range(27, 31)) == pytest.approx(
        [1, 2 / 3, 1 / 3, 0]
    )


@pytest.mark.parametrize("strategy", FROM_ZERO)
def test_warmup_begins_at_rate_0_and_no_warmup_at_the_peak(strategy):
    assert factors(strategy(warmup=5), 20, range(6)) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert factors(strategy(warmup=0), 20, range(1)) == [1.0]


@pytest.mark.parametrize("strategy", EVERY)
def test_defaults_stay_between_0_and_1_in_runs_of_any_length(strategy):
    for total in range(1, 60):
        values = factors(strategy(), total, range(total + 5))
        assert all(0 <= value <= 1 for value in values)
        assert max(values[:total]) == pytest.approx(1, abs=0.1) or total == 1


@pytest.mark.parametrize("strategy", FROM_ZERO)
def test_a_warmup_of_the_whole_run(strategy):
    schedule = strategy(warmup=10) if strategy is not WarmupStableDecay else strategy(warmup=10, decay=0)
    assert factors(schedule, 10, range(10)) == pytest.approx([step / 10 for step in range(10)])


def test_two_shares_that_fit_do_so_in_a_run_of_few_steps():
    schedule = WarmupStableDecay(warmup=0.5, decay=0.5, shape="linear")
    assert factors(schedule, 3, range(4)) == pytest.approx([0, 0.5, 1, 0])


def test_wsd_without_decay_is_constant():
    assert factors(WarmupStableDecay(warmup=2, decay=0), 10, range(12)) == factors(Constant(warmup=2), 10, range(12))


def test_the_1_sqrt_shape_falls_fastest_at_first():
    u = 1 / 9
    value = factors(WarmupStableDecay(warmup=0, decay=9), 9, range(1, 2))[0]
    assert value == pytest.approx(1 - math.sqrt(u))


# -- against others' code --------------------------------------------------------------------------------------


def rates(make: Callable[[Any], Any], steps: int) -> list[float]:
    """The factors of a scheduler of transformers or torch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    found: list[float] = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"] / PEAK)
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("warmup", "total", "cycles"), [(0, 12, 4), (3, 30, 3), (5, 40, 4), (7, 30, 5)])
def test_restarts_are_those_of_transformers(warmup, total, cycles):
    theirs = rates(
        lambda o: transformers.get_cosine_with_hard_restarts_schedule_with_warmup(o, warmup, total, cycles), total + 3
    )
    assert factors(CosineRestarts(warmup=warmup, cycles=cycles), total, range(total + 3)) == pytest.approx(
        theirs, abs=1e-12
    )


@pytest.mark.parametrize(("first", "multiplier"), [(5, 1), (3, 2), (1, 3)])
def test_growing_cycles_are_those_of_torch(first, multiplier):
    schedule = CosineRestarts(warmup=0, first=first, multiplier=multiplier, min_lr=0.1 * PEAK)
    theirs = rates(lambda o: CosineAnnealingWarmRestarts(o, first, multiplier, eta_min=0.1 * PEAK), 49)
    assert factors(schedule, 49, range(49)) == pytest.approx(theirs, abs=1e-12)


def test_a_number_of_growing_cycles_fills_the_run():
    """3 cycles of 4, 8 and 16 updates after a climb of 2."""
    given = factors(CosineRestarts(warmup=2, cycles=3, multiplier=2), 30, range(35))
    assert given == pytest.approx(factors(CosineRestarts(warmup=2, first=4, multiplier=2), 30, range(35)), abs=1e-12)
    assert [step for step in range(31) if given[step] == 1] == [2, 6, 14] and given[30] == 0


def test_every_restart_is_at_the_peak_where_cycles_are_even():
    """(t − W)·n/(N − W) in floats may fall short of the whole number that it is; 1 − 1e-9 of a cycle is its end."""
    for cycles in range(1, 40):
        given = factors(CosineRestarts(warmup=3, cycles=cycles), 3 + 7 * cycles, range(4 + 7 * cycles))
        assert [step for step, value in enumerate(given) if value == 1] == list(range(3, 3 + 7 * cycles, 7))


def test_more_cycles_than_updates_are_no_error():
    assert factors(CosineRestarts(warmup=0, cycles=1000, multiplier=9), 5, range(6))[-1] == 0


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_polynomial_is_that_of_transformers(power):
    theirs = rates(
        lambda o: transformers.get_polynomial_decay_schedule_with_warmup(o, 3, 20, lr_end=0.1 * PEAK, power=power), 25
    )
    schedule = Polynomial(warmup=3, power=power, min_lr=0.1 * PEAK)
    assert factors(schedule, 20, range(25)) == pytest.approx(theirs, abs=1e-12)


def test_a_power_of_1_is_linear():
    linear = factors(Linear(warmup=3), 20, range(25))
    assert factors(Polynomial(warmup=3, power=1.0), 20, range(25)) == pytest.approx(linear, abs=1e-15)


@pytest.mark.parametrize(("warmup", "timescale"), [(3, None), (3, 7), (0, None), (0, 5)])
def test_inverse_sqrt_is_that_of_transformers(warmup, timescale):
    theirs = rates(lambda o: transformers.get_inverse_sqrt_schedule(o, warmup, timescale), 25)
    assert factors(InverseSqrt(warmup=warmup, timescale=timescale), 25, range(25)) == pytest.approx(theirs, abs=1e-12)


def test_slanted_triangular_is_the_papers_formula():
    """Howard and Ruder 2018, equation 3, with T = 200, cut_frac = 0.1 and ratio = 32."""
    cut = math.floor(200 * 0.1)
    expected = []
    for t in range(201):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / 0.1 - 1))
        expected.append((1 + p * (32 - 1)) / 32)
    assert factors(SlantedTriangular(), 200, range(201)) == pytest.approx(expected, abs=1e-12)
    named = factors(SlantedTriangular(min_lr=PEAK / 32), 200, range(201))
    assert named == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("strategy", FALLING)
def test_the_floor_is_a_share_of_each_groups_own_rate(strategy):
    """Groups at the peak, at half of it and at three times as much, as layer rates make them."""
    schedule = strategy(min_lr=0.25 * PEAK, **({"timescale": 1} if strategy is InverseSqrt else {}))
    factor = schedule.build(ScheduleContext(total_steps=40, lr=PEAK))
    own = [PEAK, PEAK / 2, 3 * PEAK]
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in own], lr=1.0)
    scheduler = LambdaLR(optimizer, factor)
    highest = [0.0, 0.0, 0.0]
    for _ in range(40):
        highest = [max(most, group["lr"]) for most, group in zip(highest, optimizer.param_groups, strict=True)]
        optimizer.step()
        scheduler.step()
    assert highest == pytest.approx(own)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.25 * rate for rate in own])


# -- what does not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", WARMED)
def test_warmup_longer_than_the_run(strategy):
    with pytest.raises(RecipeError, match=r"schedule\.warmup is 500 steps, and the run has 200") as caught:
        factors(strategy(warmup=500), 200, range(1))
    assert "share" in caught.value.problems[0].hint
    [problem] = strategy(warmup=500).check(recipe(max_steps=200))
    assert problem.key == ("schedule", "warmup")
    assert problem.message == "warmup is 500 steps, and run.max_steps is 200"
    assert "share" in problem.hint


@pytest.mark.parametrize("strategy", FALLING)
def test_an_end_above_the_peak(strategy):
    [problem] = strategy(min_lr=1e-4).check(recipe())
    assert problem.key == ("schedule", "min_lr")
    assert problem.message == "min_lr 0.0001 is above optimizer.lr 2e-05"
    assert not list(strategy(min_lr=PEAK).check(recipe()))


def test_shares_over_1():
    [problem] = WarmupStableDecay(warmup=0.6, decay=0.5).check(recipe())
    assert problem.key == ("schedule", "decay")
    assert "0.6" in problem.message and "0.5" in problem.message
    with pytest.raises(RecipeError, match=r"warmup is 60 steps and schedule\.decay 50, and the run has 100"):
        factors(WarmupStableDecay(warmup=0.6, decay=0.5), 100, range(1))


@pytest.mark.parametrize(("warmup", "decay"), [(60, 50), (60, 0.5), (0.6, 50)])
def test_warmup_and_decay_longer_than_the_run(warmup, decay):
    schedule = WarmupStableDecay(warmup=warmup, decay=decay)
    [problem] = schedule.check(recipe(max_steps=100))
    assert problem.key == ("schedule", "decay")
    assert not list(schedule.check(recipe()))
    with pytest.raises(RecipeError, match="the run has 100"):
        factors(schedule, 100, range(1))


@pytest.mark.parametrize("strategy", EVERY)
def test_what_fits_is_not_complained_about(strategy):
    for max_steps in (None, 1, 2, 3, 10, 1000):
        assert not list(strategy().check(recipe(max_steps)))


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (Polynomial, {"power": 0}),
        (CosineRestarts, {"cycles": 0}),
        (CosineRestarts, {"first": 0}),
        (CosineRestarts, {"multiplier": 0.5}),
        (InverseSqrt, {"timescale": 0}),
        (SlantedTriangular, {"ratio": 0.5}),
        (SlantedTriangular, {"min_lr": -1e-6}),
    ],
)
def test_options_of_others_out_of_range_are_refused(strategy, options):
    with pytest.raises(ValidationError):
        strategy(**options)


@pytest.mark.parametrize("options", [{"warmup": -1}, {"min_lr": -1e-6}, {"shape": "sqrt"}, {"decay": -0.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        WarmupStableDecay(**options)
