"""Forecasts: every installed one is asked once, and none of them can harm a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from fttool.runs import forecasting
from fttool.runs.forecasting import forecast


class Simple:
    """A forecast as a third party would write one."""

    lines = ("about an hour",)
    figures: Mapping[str, Any] = {"hours": 1.0}

    def ended(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"hours": summary["seconds"] / 3600}


class Broken(Simple):
    def ended(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        raise KeyError("hours")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The forecasts of a run, where these functions are installed under their names; and what it noted."""

    def call(disable: tuple[str, ...] = (), first: bool = True, **installed: Any) -> tuple[Any, list[str]]:
        points = [SimpleNamespace(name=name, load=lambda made=made: made) for name, made in installed.items()]
        monkeypatch.setattr(forecasting, "entry_points", lambda group: points if group == forecasting.GROUP else [])
        noted: list[str] = []
        prepared: Any = SimpleNamespace(
            loaded=SimpleNamespace(recipe=SimpleNamespace(plugins=SimpleNamespace(disable=disable))),
            world=SimpleNamespace(first=first),
            watch=SimpleNamespace(note=noted.append),
        )
        return forecast(prepared), noted

    return call


def test_what_is_predicted_stands_beside_what_it_was(ask: Callable[..., Any]) -> None:
    found, noted = ask(beta=lambda _: Simple(), alpha=lambda _: Simple(), silent=lambda _: None)
    assert noted == ["about an hour"] * 2 and list(found.figures) == ["alpha", "beta"]
    assert found.compared({"seconds": 7200}) == {
        "seconds": 7200,
        "forecasts": {name: {"predicted": {"hours": 1.0}, "actual": {"hours": 2.0}} for name in ("alpha", "beta")},
    }


def test_one_that_fails_is_passed_over_and_said(ask: Callable[..., Any]) -> None:
    def fails(_: Any) -> None:
        raise SystemExit("not today")

    found, noted = ask(bad=fails, good=lambda _: Simple(), late=lambda _: Broken())
    assert noted == ["no forecast of 'bad': SystemExit: not today", "about an hour", "about an hour"]
    told = found.compared({"seconds": 3600})["forecasts"]
    assert told["good"]["actual"] == {"hours": 1.0} and told["late"]["actual"] == {"error": "KeyError: 'hours'"}


def test_one_that_is_disabled_and_those_of_other_processes_are_not_asked(ask: Callable[..., Any]) -> None:
    def unasked(_: Any) -> None:
        raise AssertionError

    assert ask(disable=("one",), one=unasked)[0].figures == {}
    found, noted = ask(first=False, one=unasked)
    assert noted == [] and found.compared({}) == {"forecasts": {}}
