"""`fttool find-lr`: rates read off curves that are known, found on a model that learns, and nothing left behind."""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool import load
from fttool.cli import main
from fttool.testing import run_recipe
from fttool_plugins.verbs.find_lr.curve import Point, Runaway, read_curve

TWO = "sharding={name='ddp',processes=2}"
RATES = [10 ** (-6 + 6 * step / 119) for step in range(120)]


def valley(rate: float) -> float:
    """Falls by 1 around 1e-4, steepest there, lies at 2 from 1e-3 on, and rises beyond where it began from 1e-1 on."""
    place = math.log10(rate)
    return 3 - 1 / (1 + math.exp(-6 * (place + 4))) + 5 * max(0.0, place + 1.2)


def points(shape: Callable[[float], float], noise: float = 0.0) -> list[Point]:
    chance = random.Random(3)
    return [Point(rate, shape(rate) + chance.gauss(0, noise)) for rate in RATES]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
def test_rates_are_read_off_a_curve_in_spite_of_its_noise(noise: float) -> None:
    found = read_curve(points(valley, noise))
    assert found.steepest is not None and found.lowest is not None and found.diverging is not None
    assert found.points[found.steepest].lr == pytest.approx(1e-4, rel=1.5)
    assert 3e-4 < found.points[found.lowest].lr < 0.1
    assert 10**-1.1 < found.diverging < 10**-0.8
    assert found.suggestion == pytest.approx(found.points[found.lowest].lr / 10, rel=0.05)
    assert found.noise == pytest.approx(noise, rel=0.4, abs=0.02)
    assert not found.still_falling


def test_a_loss_that_only_trembles_suggests_nothing() -> None:
    """Of many such curves, few look like one that falls."""
    wrong = 0
    for seed in range(100):
        chance = random.Random(seed)
        found = read_curve([Point(rate, 3 + chance.gauss(0, 0.2)) for rate in RATES])
        assert (found.steepest is None) == (found.suggestion is None)
        wrong += found.suggestion is not None
    assert wrong <= 15


def test_a_loss_that_falls_to_the_end_was_not_tried_further() -> None:
    found = read_curve(points(lambda rate: -math.log10(rate)))
    assert found.still_falling and found.diverging is None


def test_what_blew_up_is_the_diverging_rate() -> None:
    found = read_curve(points(lambda rate: -math.log10(rate)), blown_up=2.0)
    assert found.diverging == 2.0 and not found.still_falling


def test_the_rest_is_not_run_once_the_loss_has_run_away() -> None:
    steady, rising = Runaway(), Runaway()
    assert not any(steady.over(loss) for loss in (3, 2, 9, 3, 2, 9, 2, 3, 1, 8, 9, 2, 7, 8, 1, 9))
    assert [rising.over(loss) for loss in [1.0] * 10 + [9.0] * 5] == [False] * 14 + [True]


# -- on a model ---------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path, fttool_rows: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "rows.jsonl").write_text(fttool_rows.read_text())
    data = {"train": [{"path": "rows.jsonl", "format": "messages"}], "eval_share": 0.2}
    fttool_recipe |= {"data": data, "optimizer": {"lr": 1e-3}, "evaluation": {"every": 2, "samples": 1}}
    fttool_recipe["run"] = {"max_steps": 4, "micro_batch": 4, "global_batch": 4, "output": str(tmp_path / "runs")}
    return written(tmp_path / "my.toml", fttool_recipe)


def written(path: Path, recipe: dict[str, Any]) -> Path:
    path.write_text(dumps(recipe))
    return path


def ended(words: list[str]) -> int:
    """The exit code, whoever exits."""
    try:
        return main(words)
    except SystemExit as stopped:
        return int(stopped.code or 0)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def found_by(captured: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    captured.readouterr()
    assert main(["find-lr", *map(str, words), "--json"]) == 0, captured.readouterr().err
    return json.loads(captured.readouterr().out)


def test_the_rates_hold_for_real_runs_and_nothing_is_touched(
    recipe: Path, tmp_path: Path, fttool_tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, weights = snapshot(tmp_path), snapshot(fttool_tiny_model)
    found = found_by(capsys, recipe, "--updates", "50")
    assert snapshot(tmp_path) == before and snapshot(fttool_tiny_model) == weights
    assert not list((tmp_path / "tmp").iterdir())
    assert found["steepest_lr"] < found["lowest_lr"] < found["diverging_lr"]

    def loss(name: str, rate: float) -> float:
        """After 30 updates at that rate, on the evaluation rows."""
        keys = [f"optimizer.lr={rate}", "run.max_steps=30", f"run.name={name}", "evaluation.every=30"]
        run = run_recipe(recipe.read_text(), tmp_path, overrides=[*keys, "checkpoints.every=100"])
        return math.inf if run.exit_code == 8 else run.summary["eval"]["after"]["loss"]

    good, start = loss("good", found["suggested_lr"]), found["start_loss"]
    assert good < start
    assert loss("low", found["suggested_lr"] / 10) > good + 0.05  # slower
    assert loss("high", min(9.0, 10 * found["diverging_lr"])) > good + 0.5  # nothing comes of it


@pytest.mark.parametrize(
    "tables",
    [
        {"freezing": {"name": "gradual", "every": 3}, "regularizers": [{"name": "l2-init", "strength": 0.1}]},
        {"freezing": {"name": "lora", "rank": 2}, "layer_rates": "discriminative"},
        {"optimizer": {"name": "sgd", "lr": 0.01}, "run": {"epochs": 2, "micro_batch": 2, "global_batch": 4}},
    ],
    ids=["gradual-and-a-pull", "lora", "sgd"],
)
def test_it_climbs_under_any_strategy(
    tables: dict[str, Any], fttool_recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "my.toml", {**fttool_recipe, **tables})
    found = found_by(capsys, path, "--updates", "10")
    own = tables.get("optimizer", {}).get("lr", load(path).recipe.optimizer.lr)
    rates = [point["lr"] for point in found["losses"]]
    assert rates[1] == pytest.approx(own / 100) and rates[-1] < min(9.0, own * 1000)
    ratios = [second / first for first, second in pairwise(rates)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_a_picture_is_drawn_and_never_over_another(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["find-lr", "my.toml", "--updates", "12", "--plot", "lr.svg", "-q"]) == 0
    said = capsys.readouterr()
    assert "<svg" in Path("lr.svg").read_text() and "wrote lr.svg" in said.err
    assert "next    fttool" in said.out
    assert main(["find-lr", "my.toml", "--plot", "lr.svg"]) == 2
    assert "'lr.svg' exists; it is never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--from", "1e-2", "--to", "1e-3"], 2, "the test would climb from 0.01 to 0.001, which is not above it"),
        (["--from", "-1"], 2, "'-1' is not a number above 0"),
        (["--to", "nan"], 2, "'nan' is not a number"),
        (["--to", "20"], 3, "optimizer.lr"),
        (["--updates", "9"], 2, "9 updates are too few to see more than noise"),
        (["--plot", "lr.txt"], 2, "the suffix may be .png, .svg, .pdf"),
        (
            ["--set", "sharding={name='ddp',processes=2}", "--set", "run.global_batch=8"],
            2,
            "the recipe is for 2 processes, and this runs in one",
        ),
        (["--set", "optimizer.lrr=1"], 3, "did you mean 'lr'?"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    words: list[str], code: int, said: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(tmp_path)
    assert ended(["find-lr", str(recipe), *words]) == code
    assert said in capsys.readouterr().err
    assert snapshot(tmp_path) == before
