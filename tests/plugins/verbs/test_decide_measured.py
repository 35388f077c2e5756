"""`fttool decide --measure`: short runs within a budget, and what is recommended by them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.api import Example, FttoolError, UsageError
from fttool.cli import main
from fttool.recipe.reading import load
from fttool.verbs import survey
from fttool_plugins.verbs.decide import budget as budgeting
from fttool_plugins.verbs.decide.budget import Budget, TimeIsUpError
from fttool_plugins.verbs.decide.curve import Point, outlook
from fttool_plugins.verbs.decide.measuring import SLACK, Findings, compare
from fttool_plugins.verbs.decide.modes import Mode, Shape, modes
from fttool_plugins.verbs.decide.pool import FEWEST, FEWEST_MEASURED, pooled
from fttool_plugins.verbs.decide.prompting import Prompted, promptable, with_examples
from fttool_plugins.verbs.decide.recommending import best, recommendation
from fttool_plugins.verbs.decide.trials import FEWEST_UPDATES, Outcome, updates

from ...rows import write_rows

WAYS = [Mode(name, {"name": name}, 1e-4) for name in ("head-only", "top-layers", "lora", "full")]


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def findings(**given: Any) -> Findings:
    usual: dict[str, Any] = {
        "metric": "loss",
        "higher": False,
        "rows": 960,
        "measured_on": 100,
        "updates": 60,
        "mode_rows": 80,
    }
    return Findings(**{**usual, **given})


# -- time --------------------------------------------------------------------------------------------------------------


def test_what_is_under_way_when_time_is_up_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(TimeIsUpError), Budget(0.05).held():
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # what goes on in spite of any error does not go on in spite of this
                continue
    assert time.monotonic() - began < 5


def test_an_alarm_that_is_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgeting, "AGAIN", 0.05)
    swallowed = 0
    with pytest.raises(TimeIsUpError), Budget(0.02).held():
        try:
            time.sleep(5)
        except TimeIsUpError:
            swallowed += 1
        time.sleep(5)
    assert swallowed == 1


def test_nothing_rings_once_the_work_is_done() -> None:
    with Budget(0.05).held():
        pass
    time.sleep(0.1)


@pytest.mark.parametrize("seed", range(30))
def test_no_run_is_begun_that_would_not_fit(seed: int) -> None:
    """Runs of a mode take a constant time, and one per row; what was begun was promised to fit, and it did."""
    rng, clock = random.Random(seed), Clock()
    budget = Budget(rng.uniform(1, 400), clock)
    constant = {way.name: rng.uniform(0, 5) for way in WAYS}
    each = {way.name: rng.uniform(0, 0.2) for way in WAYS}
    begun: list[tuple[str, float, float]] = []
    found = findings()

    def tried(mode: Mode, rows: int, seed: int) -> Outcome:
        left, takes = budget.left, constant[mode.name] + each[mode.name] * rows
        begun.append((mode.name, left, takes))
        clock.now += takes
        if budget.left < 0:  # as the alarm would
            raise TimeIsUpError
        return Outcome(before=3.0, after=2.0 + rng.random(), forgotten=None, seconds=0.1)

    try:
        compare(found, WAYS, tried, budget, 1, lambda text: None)
    except TimeIsUpError:
        name, left, takes = begun[-1]
        assert [one for one, _, _ in begun].count(name) == 1 and takes > left  # nothing was known of it
    seen: set[str] = set()
    for name, left, takes in begun:
        if name in seen:
            assert takes <= left / SLACK + 1e-9 or takes <= left
        seen.add(name)
    done = sum(len(outcomes) for outcomes in found.modes.values()) + len(found.curve)
    assert done + len(found.left_out) >= len(begun) - 1
    assert {*found.modes} | {*found.left_out} >= {way.name for way in WAYS} or len(seen) < len(WAYS)


def test_all_that_fits_is_measured_in_the_order_of_what_it_says() -> None:
    asked: list[tuple[str, int, int]] = []

    def tried(mode: Mode, rows: int, seed: int) -> Outcome:
        asked.append((mode.name, rows, seed))
        return Outcome(before=3.0, after=1.0 if mode.name == "lora" else 2.0, forgotten=None, seconds=0.1)

    found = findings()
    compare(found, WAYS, tried, Budget(1e9, Clock()), 7, lambda text: None)
    names = [way.name for way in WAYS]
    assert asked[:4] == [(name, 80, 7) for name in names]
    assert asked[4:7] == [("lora", 120, 7), ("lora", 240, 7), ("lora", 480, 7)]
    assert asked[7:] == [(name, 80, 8) for name in names]
    assert found.left_out == {} and best(found).name == "lora"


def test_a_mode_that_is_refused_is_left_out_with_its_reason() -> None:
    def tried(mode: Mode, rows: int, seed: int) -> Outcome:
        if mode.name == "head-only":
            raise FttoolError("this model has no head")
        return Outcome(before=3.0, after=2.0, forgotten=None, seconds=0.1)

    found = findings()
    compare(found, WAYS, tried, Budget(1e9, Clock()), 1, lambda text: None)
    assert found.left_out == {"head-only": "this model has no head"} and "head-only" not in found.modes


# -- what follows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.2, 0.5, 0.95])
def test_a_curve_that_follows_a_power_law_is_continued_by_it(power: float) -> None:
    def score(rows: int) -> float:
        return 1.5 + 20 * rows**-power

    ahead = outlook([Point(rows, score(rows)) for rows in (100, 200, 400)])
    assert ahead is not None
    assert (ahead.all, ahead.twice) == pytest.approx((score(800), score(1600)))


def test_a_curve_is_never_taken_to_steepen_or_to_turn() -> None:
    steeper = outlook([Point(1, 0.5), Point(2, 0.6), Point(4, 0.9)])
    assert steeper is not None and (steeper.all, steeper.twice) == pytest.approx((1.2, 1.5))
    turning = outlook([Point(1, 0.5), Point(2, 0.6), Point(4, 0.55)])
    assert turning is not None and turning.all == turning.twice == 0.55
    flat = outlook([Point(1, 0.5), Point(2, 0.5), Point(4, 0.5)])
    assert flat is not None and flat.brings == 0
    assert outlook([Point(1, 0.5), Point(2, 0.6)]) is None


def runs(**modes: Sequence[tuple[float, float | None, float]]) -> Findings:
    """Modes with runs of (score after, forgotten, seconds of an update); the score before is 3."""
    found = findings()
    for name, outcomes in modes.items():
        found.modes[name.replace("_", "-")] = [Outcome(3.0, *one) for one in outcomes]
    return found


def test_the_best_is_recommended_where_it_stands_out() -> None:
    found = runs(head_only=[(2.9, None, 0.1), (2.91, None, 0.1)], full=[(2.0, None, 1.0), (2.01, None, 1.0)])
    said = " ".join(recommendation(found))
    assert best(found).name == "full" and 'freezing.name = "full"' in said and "more than the other ways" in said
    assert best(found).seconds == pytest.approx(60)


def test_of_what_is_as_good_the_cheapest_is_or_what_forgets_least() -> None:
    noisy = {"head_only": [(2.2, None, 0.1), (2.0, None, 0.1)], "full": [(2.1, None, 1.0), (1.9, None, 1.0)]}
    found = runs(**noisy)
    assert best(found).name == "head-only" and "costs least" in " ".join(recommendation(found))
    forgetting = {"head_only": [(2.2, 0.5, 0.1), (2.0, 0.5, 0.1)], "full": [(2.1, 0.1, 1.0), (1.9, 0.1, 1.0)]}
    found = runs(**forgetting)
    assert best(found).name == "full" and "forgets least" in " ".join(recommendation(found))


def test_what_is_within_a_twentieth_is_as_good() -> None:
    assert best(runs(head_only=[(2.04, None, 0.1)], full=[(2.0, None, 1.0)])).name == "head-only"
    steady = {"head_only": [(2.04, None, 0.1), (2.04, None, 0.1)], "full": [(2.0, None, 1.0), (2.0, None, 1.0)]}
    assert best(runs(**steady)).name == "head-only"
    assert best(runs(head_only=[(2.06, None, 0.1)], full=[(2.0, None, 1.0)])).name == "full"


def test_accuracy_has_the_noise_of_its_rows() -> None:
    found = findings(metric="accuracy", higher=True, measured_on=100)
    found.modes["head-only"] = [Outcome(0.5, 0.80, None, 0.1)]
    found.modes["full"] = [Outcome(0.5, 0.88, None, 1.0)]
    assert best(found).name == "head-only"  # of 100 rows, eight more may be chance
    found.measured_on = 10_000
    assert best(found).name == "full"
    found.commonest = 0.9
    assert "no better than always saying the commonest class" in " ".join(recommendation(found))


def test_prompting_is_recommended_where_it_gains_more() -> None:
    found = runs(full=[(2.5, None, 1.0)])
    found.prompted = Prompted(5, 3.0, 2.0)
    assert recommendation(found)[0].startswith("Prompt: 5 examples in the prompt make loss better by 1.0000")
    found.prompted = Prompted(5, 3.0, 2.9)
    assert recommendation(found)[0].startswith("Fine-tune")
    nothing = runs(full=[(3.5, None, 1.0)])
    assert recommendation(nothing)[0].startswith("Do neither yet")


def test_what_twice_the_rows_bring_is_said() -> None:
    found = runs(full=[(2.0, None, 1.0)])
    found.curve_of, found.curve = "full", [Point(120, 2.4), Point(240, 2.2), Point(480, 2.1)]
    assert "should be about 2.0500, with twice as many 2.0250" in " ".join(recommendation(found))
    assert "worth having" in recommendation(found)[-1]
    found.curve = [Point(120, 2.4), Point(240, 2.0), Point(480, 1.99)]
    assert "hardly help" in recommendation(found)[-1]


# -- rows and modes ----------------------------------------------------------------------------------------------------


def talk(number: int) -> dict[str, Any]:
    answer = "yes it is" if number % 2 else "no it is not"
    return {"messages": [{"role": "user", "content": f"is {number} odd"}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def write(tmp_path: Path, fttool_recipe: dict[str, Any]) -> Callable[..., Path]:
    """Write the tiny recipe with so many talks, and some of its tables changed."""

    def call(count: int, **tables: Any) -> Path:
        write_rows(tmp_path / "own.jsonl", map(talk, range(count)))
        run = {"epochs": 1, "micro_batch": 4, "global_batch": 4, "output": str(tmp_path / "runs")}
        recipe = {**fttool_recipe, "run": run, "data": {"train": [{"path": "own.jsonl"}]}, **tables}
        (tmp_path / "my.toml").write_text(dumps(recipe))
        return tmp_path / "my.toml"

    return call


def test_what_is_measured_on_is_not_learned_and_fewer_are_among_more(write: Callable[..., Path]) -> None:
    loaded = load(write(100))
    pool = pooled(loaded, survey(loaded))
    learned = [json.dumps(row) for part in pool.train for row in part.rows]
    held = [json.dumps(row) for part in pool.measured for row in part.rows]
    assert len(held) == 20 and len(learned) == 80 and not {*learned} & {*held}
    few, more = ([json.dumps(row) for part in pool.first(rows) for row in part.rows] for rows in (10, 40))
    assert len(few) == 10 and len(more) == 40 and {*few} < {*more} < {*learned}
    assert learned != sorted(learned)


def test_own_evaluation_rows_are_measured_on(write: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "kept.jsonl", map(talk, range(1000, 1010)))
    data = {"train": [{"path": "own.jsonl"}], "eval": [{"path": "kept.jsonl"}], "retention": [{"path": "kept.jsonl"}]}
    loaded = load(write(30, data=data))
    pool = pooled(loaded, survey(loaded))
    assert pool.rows == 30 and sum(len(part.rows) for part in pool.measured) == 10
    assert sum(len(part.rows) for part in pool.retention) == 10


def test_too_few_rows_are_refused(write: Callable[..., Path]) -> None:
    loaded = load(write(FEWEST + FEWEST_MEASURED - 1))
    with pytest.raises(UsageError, match="too few to measure"):
        pooled(loaded, survey(loaded))


def test_runs_see_their_rows_as_often_as_the_recipe_does(write: Callable[..., Path]) -> None:
    recipe = load(write(10, run={"epochs": 3, "micro_batch": 4, "global_batch": 4})).recipe
    assert updates(recipe, 100) == 75
    assert updates(recipe, 4) == FEWEST_UPDATES


def test_rates_are_relative_to_that_of_full_and_the_own_mode_stays(write: Callable[..., Path]) -> None:
    own = {"name": "lora", "rank": 3}
    recipe = load(write(10, freezing=own, optimizer={"lr": 2e-3})).recipe
    found, _ = modes(recipe, Shape(blocks=8, tied=True, positions=64))
    tables = {one.name: one for one in found}
    assert tables["lora"].freezing == own and tables["lora"].rate == pytest.approx(2e-3)
    assert tables["full"].rate == pytest.approx(2e-4)
    assert tables["head-only"].freezing == {"name": "head-only", "untie": True}
    assert tables["top-layers"].freezing == {"name": "top-layers", "n": 2}
    assert "top-layers" in modes(recipe, Shape(blocks=0, tied=False, positions=None))[1]


def test_examples_stand_before_what_is_asked() -> None:
    def chat(*turns: str) -> Example:
        roles = {"s": "system", "u": "user", "a": "assistant"}
        return Example(origin="x:1", messages=tuple({"role": roles[turn[0]], "content": turn} for turn in turns))

    shown = [chat("s0", "u1", "a1"), chat("u2", "a2")]
    row = with_examples(chat("s9", "u9", "a9", "u8"), shown)
    assert [turn["content"] for turn in row["messages"]] == ["s9", "u1", "a1", "u2", "a2", "u9", "a9"]
    text = Example(origin="x:1", prompt="Q: ", completion="A")
    assert with_examples(text, [text, text]) == {"prompt": "Q: A\n\nQ: A\n\nQ: ", "completion": "A"}
    assert promptable([text]) and not promptable([Example(origin="x:1", completion="whole")])
    assert not promptable([Example(origin="x:1", prompt="a", labels=("b",))])


# -- the verb ----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_short_runs_are_made_within_the_budget(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "kept.jsonl", map(talk, range(1000, 1010)))
    data = {"train": [{"path": "own.jsonl"}], "eval_share": 0.2, "retention": [{"path": "kept.jsonl"}]}
    recipe = write(60, data=data)
    before = {path.name for path in tmp_path.iterdir()}
    assert main(["decide", str(recipe), "--measure", "--budget", "10m", "--shots", "2", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)["measured"]
    assert {path.name for path in tmp_path.iterdir()} == before
    assert {one["name"] for one in found["modes"]} == {"head-only", "top-layers", "lora", "full"}, found["not_measured"]
    assert all(len(one["runs"]) == 2 and one["forgotten"] is not None for one in found["modes"])
    assert len({round(one["runs"][0]["before"], 5) for one in found["modes"]}) == 1  # one base model, one set of rows
    assert found["prompted"]["shots"] == 2
    assert found["prompted"]["without"] == pytest.approx(found["modes"][0]["runs"][0]["before"], rel=1e-4)
    assert found["recommendation"] and found["mode"] in {one["name"] for one in found["modes"]}
    assert [point["rows"] for point in found["curve"]] == [12, 24] and "too few rows" in str(found["not_measured"])


def test_a_budget_that_holds_nothing_is_refused(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(write(60))
    assert main(["decide", recipe, "--measure", "--budget", "0.01s"]) == 2
    said = capsys.readouterr()
    assert "within 0 s" not in said.err and "--budget" in said.err and not said.out


@pytest.mark.parametrize("budget", ["0", "-1m", "ten", "1d", "1e3", "9" * 40])
def test_a_budget_is_a_time(budget: str, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["decide", str(write(60)), "--measure", f"--budget={budget}"])
    assert "not a time" in capsys.readouterr().err


def test_measuring_needs_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_rows(tmp_path / "rows.jsonl", map(talk, range(30)))
    assert main(["decide", str(file), "--measure"]) == 2
    assert "is not a recipe" in capsys.readouterr().err
    assert main(["decide", str(file), "--budget", "5m"]) == 2
