"""Advice: each rule is asked where its needs are met, one that fails harms nothing, and ignored ids are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tomli_w import dumps

from fttool.api import Advice, AdviceContext, AdviceRule
from fttool.cli import main
from fttool.contracts.advice import ADVICE
from fttool.recipe import rules
from fttool.runs import advising

ROW = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}) + "\n"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install these rules, by id, and no others."""

    def call(**installed: Any) -> None:
        points = [
            SimpleNamespace(name=name.replace("_", "-"), load=lambda made=made: made)
            for name, made in installed.items()
        ]
        for module in (advising, rules):
            monkeypatch.setattr(module, "entry_points", lambda group: points if group == ADVICE else [])

    return call


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write `my.toml` here, with so many rows beside it."""
    monkeypatch.chdir(tmp_path)

    def call(rows: int = 3, data: Any = None, **tables: Any) -> None:
        Path("rows.jsonl").write_text(ROW * rows)
        recipe: dict[str, Any] = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}}
        recipe["data"] = {"train": [{"path": "rows.jsonl"}], **(data or {})}
        Path("my.toml").write_text(dumps({**recipe, **tables}))

    return call


def rule(needs: Any = "recipe", says: str = "", key: tuple[str, ...] = ()) -> AdviceRule:
    """One that says the rows that it was told of, behind `says`; without it, nothing."""

    def judge(ctx: AdviceContext) -> Advice | None:
        happens = f"{says} {dict(ctx.rows)}"
        return Advice(happens=happens, remedy="do it", source="a study", key=key) if says else None

    return AdviceRule(judge=judge, needs=needs)


def advised(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["validate", "my.toml", "--advise", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_each_rule_is_asked_where_its_needs_are_met(
    install: Callable[..., None], write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(silent=rule(), by_rows=rule("rows", "seen"), by_run=rule("run", "never"), a=rule(says="a", key=("model",)))
    write(rows=10, data={"eval_share": 0.2})
    code, told = advised(capsys)
    counts = "{'train': 8, 'eval': 2, 'general': 0, 'retention': 0}"
    assert code == 0 and told["problems"] == []
    assert [(one["id"], one["where"], one["happens"]) for one in told["advice"]] == [
        ("a", "my.toml:3:2", f"a {counts}"),
        ("by-rows", "", f"seen {counts}"),
    ]
    assert told["asked"] == 3 and list(told["not_asked"]) == ["by-run"] and told["ignored"] == []
    assert main(["validate", "my.toml", "--advise"]) == 0
    shown = capsys.readouterr().out
    assert "3 rules asked, 2 pieces of advice" in shown and "not asked: by-run: " in shown
    assert f"my.toml:3:2: a: a {counts}\n      do it\n      a study\n" in shown


@pytest.mark.parametrize("words", [(), ("--no-rows",)])
def test_what_was_not_counted_is_not_guessed(
    words: tuple[str, ...],
    install: Callable[..., None],
    write: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(by_rows=rule("rows", "seen"), by_recipe=rule(says="told"))
    write(rows=3 if words else 1_001)
    _, told = advised(capsys, *words)
    assert [one["id"] for one in told["advice"]] == ["by-recipe"] and "by-rows" in told["not_asked"]
    assert "'train': None" in told["advice"][0]["happens"]


def test_a_rule_that_fails_is_passed_over_and_said(
    install: Callable[..., None], write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: AdviceContext) -> None:
        raise SystemExit("not today")

    def says(_: AdviceContext) -> Any:
        return "a word"

    install(bad=AdviceRule(judge=fails), worse=None, bent=AdviceRule(judge=says), good=rule(says="well"))
    write()
    code, told = advised(capsys)
    assert code == 0 and [one["id"] for one in told["advice"]] == ["good"] and told["asked"] == 1
    assert told["not_asked"]["bad"] == "it failed: SystemExit: not today"
    assert told["not_asked"]["worse"].startswith("it failed: AttributeError")
    assert told["not_asked"]["bent"] == "it failed: TypeError: it says str, not Advice or None"


def test_what_is_ignored_is_not_imported_and_said(
    install: Callable[..., None], write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def unasked(_: AdviceContext) -> None:
        raise AssertionError

    install(loud=AdviceRule(judge=unasked), other=rule(says="well"))
    write(advice={"ignore": ["loud"]})
    _, told = advised(capsys)
    assert [one["id"] for one in told["advice"]] == ["other"] and told["ignored"] == ["loud"] == told["ignored"]
    assert told["not_asked"] == {}


def test_an_id_that_is_not_there_is_refused_with_the_nearest(
    install: Callable[..., None], write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(cold_head=rule(), other=rule())
    write(advice={"ignore": ["other", "coldhead"]})
    code, told = advised(capsys)
    assert code == 3 and "advice" not in told
    (problem,) = told["problems"]
    assert problem["message"] == "there is no advice 'coldhead' to ignore"
    assert problem["hint"] == "did you mean 'cold-head'?"
    text = Path("my.toml").read_text()
    assert problem["where"] == f"my.toml:{text[: text.index('coldhead')].count(chr(10)) + 1}:5"


def test_advice_says_nothing_of_a_recipe_that_is_wrong(
    install: Callable[..., None], write: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(a=rule(says="a"))
    write(optimizer={"lr": -1.0})
    code, told = advised(capsys)
    assert code == 3 and list(told) == ["problems"] and len(told["problems"]) == 1


def test_a_dry_run_asks_all(
    install: Callable[..., None],
    write: Callable[..., None],
    fttool_tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[Any] = []

    def judge(ctx: AdviceContext) -> Advice:
        seen.append(ctx)
        return Advice(happens="it would", remedy="do it", source="a study", key=("run",))

    install(by_run=AdviceRule(judge=judge, needs="run"), silent=rule("rows"))
    write(rows=2, run={"max_steps": 2}, model={"source": str(fttool_tiny_model)})
    assert main(["run", "my.toml", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("# advice")
    assert lines[place + 2] == "2 rules asked, 1 piece of advice"
    assert lines[place + 3].endswith(": by-run: it would") and lines[place + 4 :] == ["    do it", "    a study"]
    (ctx,) = seen
    assert ctx.rows == {"train": 2, "eval": 0, "general": 0, "retention": 0}
    assert ctx.prepared.length.total_steps == 2
