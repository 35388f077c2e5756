"""What two schedules have in common, and where one holds its peak: told from their factors alone."""

import pytest

from fttool.contracts.update import Factor, ScheduleContext
from fttool.listing import find
from fttool.plugins import Plugins
from fttool.training.rates import shared_updates, stable_phase

OURS = Plugins.of()


def factor(name: str, total: int, **options: object) -> Factor:
    return find(OURS, f"schedule.{name}")(**options).build(ScheduleContext(total_steps=total, lr=1e-3))


WSD = {"warmup": 10, "decay": 20}


@pytest.mark.parametrize(
    ("name", "options", "shared"),
    [
        ("constant", {}, 100),
        ("constant", {"warmup": 7}, 100),
        ("constant", {"warmup": 0.1}, 1),  # 10 steps and 15: both begin at rate 0
        ("wsd", WSD, 81),  # the decay begins with an update at the full rate
        ("wsd", {"warmup": 10, "decay": 0.2}, 81),
        ("wsd", {**WSD, "min_lr": 1e-3 * 0.1423}, 81),
        ("wsd", {"warmup": 0.1, "decay": 20}, 1),
        ("inverse-sqrt", {"warmup": 10}, 100),
        ("inverse-sqrt", {"warmup": 0.1}, 1),
        ("cosine-restarts", {"warmup": 10, "first": 40}, 100),
        ("cosine-restarts", {"warmup": 10, "first": 45, "multiplier": 2}, 100),
        ("cosine-restarts", {"warmup": 10, "cycles": 2}, 11),
        ("cosine", {"warmup": 10}, 11),
        ("linear", {"warmup": 0}, 1),
        ("polynomial", {"warmup": 0}, 1),
        ("slanted-triangular", {"warmup": 10}, 11),
        ("exponential", {}, 1),
    ],
)
def test_updates_that_a_longer_run_shares(name: str, options: dict[str, object], shared: int) -> None:
    assert shared_updates(factor(name, 100, **options), factor(name, 150, **options), 100) == shared


def test_a_run_shares_all_with_itself_up_to_where_one_asks() -> None:
    assert shared_updates(factor("cosine", 100), factor("cosine", 100), 60) == 60


@pytest.mark.parametrize(
    ("name", "options", "stable"),
    [
        ("constant", {}, range(101)),
        ("constant", {"warmup": 7}, range(7, 101)),
        ("constant", {"warmup": 0.07}, range(7, 101)),
        ("wsd", WSD, range(10, 81)),
        ("wsd", {"warmup": 0.1, "decay": 0.2}, range(10, 81)),
        ("wsd", {"warmup": 10, "decay": 0}, range(10, 101)),
        ("wsd", {"warmup": 50, "decay": 50}, range(0)),
        ("wsd", {**WSD, "min_lr": 1e-3 * 0.1423}, range(10, 81)),
        ("cosine", {"warmup": 10}, range(0)),
        ("linear", {"warmup": 10}, range(0)),
        ("polynomial", {"warmup": 0, "power": 0.01}, range(0)),
        ("cosine-restarts", {"warmup": 10, "first": 3}, range(0)),
        ("inverse-sqrt", {"warmup": 10, "timescale": 10**6}, range(0)),
        ("slanted-triangular", {}, range(0)),
        ("exponential", {}, range(99, 101)),  # the last update, and past the end
    ],
)
def test_where_the_peak_is_held(name: str, options: dict[str, object], stable: range) -> None:
    assert stable_phase(factor(name, 100, **options), 100) == stable


def test_a_peak_that_is_never_reached_is_not_held() -> None:
    assert stable_phase(lambda step: 0.5, 10) == range(0)
