"""What leaving rows out gains is measured in pairs that differ in nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fttool.api import DataError, Problem
from fttool.cli import main
from fttool_plugins.filter.personal_data import PersonalData
from fttool_plugins.verbs.audit import gains
from fttool_plugins.verbs.audit.gains import Bounds, Pool, pairs
from fttool_plugins.verbs.audit.report import Step, Suspects
from fttool_plugins.verbs.audit.trials import Rows

from ...rows import write_rows
from .test_audit import WORDS, chat, some


def suspected(name: str, origins: set[str]) -> Suspects:
    return Suspects(
        filter=name, about="", rows=len(origins), share=0.0, reasons={}, worst=[], origins=frozenset(origins)
    )


def numbered(first: int, last: int) -> Rows:
    return [(f"r:{number}", {"n": number}) for number in range(first, last)]


def a_pool(bad: set[str]) -> Pool:
    return Pool(train=[numbered(0, 40), numbered(40, 60)], held_out=numbered(60, 70), place=0, bad=bad)


def test_the_runs_of_a_pair_differ_in_the_suspects_alone() -> None:
    bad = {"r:1", "r:2", "r:41"}
    pool = a_pool(bad | {"r:3"})
    chosen = pool.chosen(1000, 5)
    without = pool.without(chosen, bad, 5)
    assert [len(rows) for rows in without] == [40, 20]
    for before, after in zip(chosen, without, strict=True):
        for (old, _), (new, row) in zip(before, after, strict=True):
            assert new == old if old not in bad else new not in pool.bad
            assert new == f"r:{row['n']}"
    assert pool.chosen(1000, 5) == chosen and pool.without(chosen, bad, 5) == without
    assert sum(map(len, pool.chosen(8, 5))) == 8


def test_a_gain_is_what_the_loss_falls_by() -> None:
    """The loss is a count of what is wrong among the rows, so the gain is known to the digit."""
    weights = {"r:1": 3.0, "r:2": 5.0, "r:41": 7.0}
    seen: list[int] = []

    def tried(train: Sequence[Rows], held: Rows, seed: int) -> float:
        assert held == numbered(60, 70)
        seen.append(seed)
        return sum(weights.get(origin, 0.0) for rows in train for origin, _ in rows)

    kinds = [suspected("one", {"r:1", "r:41"}), suspected("two", {"r:2"}), suspected("three", {"r:99"})]
    bounds = Bounds(updates=100, seeds=2, minutes=5)
    found = pairs(a_pool(set(weights)), kinds, tried, bounds, lambda _: None)
    assert found == {"one": [10.0, 10.0], "two": [5.0, 5.0]}
    assert seen == [0, 0, 0, 1, 1, 1], "every filter has its first pair before one has its second"
    assert pairs(a_pool(set(weights)), kinds, tried, Bounds(minutes=-1.0), lambda _: None) == {}


def test_where_nothing_is_left_the_others_are_measured() -> None:
    def tried(train: Sequence[Rows], held: Rows, seed: int) -> float:
        if "r:2" not in {origin for rows in train for origin, _ in rows}:
            raise DataError(Problem("no row is left"))
        return 1.0

    kinds = [suspected("one", {"r:2"}), suspected("two", {"r:3"})]
    bounds = Bounds(updates=100, seeds=1)
    assert pairs(a_pool({"r:2", "r:3"}), kinds, tried, bounds, lambda _: None) == {"two": [0.0]}


@pytest.mark.parametrize(
    ("found", "said", "do"),
    [
        ([0.4, 0.5, 0.45], "lower by 0.450", "look"),
        ([-0.4, -0.5, -0.45], "higher by 0.450", "keep them"),
        ([0.4, -0.5, 0.1], "not told from noise", "look"),
        ([0.4], "noise unknown", "look"),
        ([], "not measured", "look"),
    ],
)
def test_a_gain_in_words(found: Sequence[float], said: str, do: str) -> None:
    step = gains._with_gain(Step(filter="one", rows=3, do="look"), {"one": found})
    assert said in step.verdict and step.do == do


def test_what_gains_comes_first_and_what_is_to_be_kept_last() -> None:
    given: Mapping[str, Sequence[float]] = {"a": [-2.0, -2.1], "b": [0.1, 0.12], "c": [3.0, -3.0], "d": [1.0, 1.1]}
    made = [gains._with_gain(Step(filter=name, rows=1, do=""), given) for name in "abcd"]
    assert [step.filter for step in sorted(made, key=gains._rank)] == ["d", "b", "c", "a"]


def test_it_is_measured_in_real_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fttool_tiny_model: Path
) -> None:
    """A few updates of a tiny model; a third of the rows are spoiled in one way, so that the sign cannot be missed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fttool_plugins.verbs.audit.trials.MODEL", str(fttool_tiny_model))
    monkeypatch.setattr("fttool_plugins.verbs.audit.ready_filters", lambda _: ([PersonalData()], {}))
    good = some(60)
    bad = [chat(f"{WORDS[n % 18]} {n * 977}?", f"write to a{n}.b@example.com now") for n in range(30)]
    write_rows(tmp_path / "rows.jsonl", [*good, *bad])
    words = ["--measure", "--updates", "8", "--seeds", "1", "--json"]
    assert main(["audit", "rows.jsonl", *words]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["order"].startswith("by measured gain") and f"rows, on {60 // 5} rows" in report["order"]
    (step,) = [one for one in report["steps"] if one["filter"] == "personal-data"]
    assert step["gain"] > 0 and step["noise"] is None
    assert not [path for path in tmp_path.iterdir() if path.name != "rows.jsonl"], "nothing is left behind"


def test_too_few_rows_to_measure_on_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fttool_plugins.verbs.audit.ready_filters", lambda _: ([PersonalData()], {}))
    write_rows(tmp_path / "rows.jsonl", some(20))
    assert main(["audit", "rows.jsonl", "--measure"]) == 2
    assert "too few rows to measure on: 4 of the 20" in capsys.readouterr().err
