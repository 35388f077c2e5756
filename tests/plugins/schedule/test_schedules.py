"""The built-in schedules against reference values, at their edges, and against recipes they do not fit."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from fttool.api import RecipeError, Schedule, ScheduleContext
from fttool_plugins.schedule import fttool_strategies
from fttool_plugins.schedule.constant import Constant
from fttool_plugins.schedule.cosine import Cosine
from fttool_plugins.schedule.linear import Linear
from fttool_plugins.schedule.wsd import WarmupStableDecay

PEAK = 2e-5
FALLING = [Linear, Cosine, WarmupStableDecay]
EVERY = [Constant, *FALLING]


def factors(schedule: Schedule, total: int, steps: range) -> list[float]:
    factor = schedule.build(ScheduleContext(total_steps=total, lr=PEAK))
    return [factor(step) for step in steps]


def recipe(max_steps: int | None = None, lr: float = PEAK) -> Any:
    return SimpleNamespace(run=SimpleNamespace(max_steps=max_steps), optimizer=SimpleNamespace(lr=lr))


def test_the_room_lists_them():
    assert [strategy.id() for strategy in fttool_strategies()] == ["constant", "linear", "cosine", "wsd"]


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
}
reference = pytest.mark.parametrize(("schedule", "expected"), REFERENCE.values(), ids=REFERENCE)


@reference
def test_reference_values(schedule, expected):
    assert factors(schedule, 10, range(11)) == pytest.approx(expected, abs=5e-7)


@reference
def test_a_share_means_the_same_as_its_steps(schedule, expected):
    shares = {key: value / 10 for key, value in schedule.model_dump().items() if key in ("warmup", "decay")}
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


@pytest.mark.parametrize("strategy", EVERY)
def test_warmup_begins_at_rate_0_and_no_warmup_at_the_peak(strategy):
    assert factors(strategy(warmup=5), 20, range(6)) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert factors(strategy(warmup=0), 20, range(1)) == [1.0]


@pytest.mark.parametrize("strategy", EVERY)
def test_defaults_stay_between_0_and_1_in_runs_of_any_length(strategy):
    for total in range(1, 60):
        values = factors(strategy(), total, range(total + 5))
        assert all(0 <= value <= 1 for value in values)
        assert max(values[:total]) == pytest.approx(1, abs=0.1) or total == 1


@pytest.mark.parametrize("strategy", EVERY)
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


def test_only_a_constant_rate_can_be_made_longer():
    assert [strategy.id() for strategy in EVERY if strategy().extendable] == ["constant"]
    assert Constant(warmup=3).extendable and not Constant(warmup=0.1).extendable
    assert factors(Constant(warmup=3), 10, range(10)) == factors(Constant(warmup=3), 99, range(10))


# -- what does not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", EVERY)
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


@pytest.mark.parametrize("options", [{"warmup": -1}, {"min_lr": -1e-6}, {"shape": "sqrt"}, {"decay": -0.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        WarmupStableDecay(**options)
