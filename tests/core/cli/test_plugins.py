"""`fttool plugins`: the list, the pages, and how quick they are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from fttool.cli import main
from fttool.cli.plugin_page import example, kind, page
from fttool.contracts import FAMILIES
from fttool.plugins import Plugins
from fttool.recipe.closed import recipe_type

from ..distributions import SCHEDULE, install

OURS = Plugins.of()
STRATEGIES = [strategy for family in FAMILIES for strategy in OURS.family(family)]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path` with one plugin of each kind of trouble."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    before = set(sys.modules)
    install(tmp_path, "cli-good", {"good": "cli_good"}, version="0.5", cli_good=SCHEDULE.format(id="good.flat"))
    install(tmp_path, "cli-bad", {"bad": "cli_bad"}, version="0.6", cli_bad="raise RuntimeError('out of luck')")
    install(tmp_path, "cli-next", {"next": "cli_next"}, group="fttool.v2", cli_next="")
    install(tmp_path, "cli-one", {"same": "cli_same"}, cli_same="")
    install(tmp_path, "cli-two", {"same": "cli_same"})
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("cli_"):
            del sys.modules[name]


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["plugins", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


# -- the list ------------------------------------------------------------------------------------------------------


def test_the_list_is_json_with_exactly_these_keys(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "--json")
    rows = json.loads(out)
    assert code == 0
    assert isinstance(rows, list)
    keys = {"id", "family", "plugin", "distribution", "version", "status", "error", "about"}
    assert all(set(row) == keys for row in rows)
    without = [row for row in rows if row["id"] is None]
    assert [row["plugin"] for row in without if row["status"] == "installed"] == ["report"], "which only watches runs"
    trouble = {row["distribution"]: (row["id"], row["status"]) for row in without if row["status"] != "installed"}
    assert trouble == {
        "cli-bad": (None, "broken"),
        "cli-next": (None, "other-major"),
        "cli-one": (None, "clash"),
        "cli-two": (None, "clash"),
    }
    assert all((row["error"] is None) == (row["status"] == "installed") for row in rows)
    (good,) = [row for row in rows if row["plugin"] == "good"]
    assert good == {
        "id": "good.flat",
        "family": "schedule",
        "plugin": "good",
        "distribution": "cli-good",
        "version": "0.5",
        "status": "installed",
        "error": None,
        "about": "The peak rate throughout",
    }


def test_the_table_has_a_row_per_strategy_and_says_what_is_wrong(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = ask(capsys)
    lines = out.splitlines()
    assert code == 0
    begun = {line.split()[0]: line for line in lines if line.startswith("  ") and line[2] != " "}
    assert set(begun) >= {strategy.id() for strategy in STRATEGIES}
    assert begun["good.flat"].split(maxsplit=1)[1] == "The peak rate throughout (cli-good 0.5)"
    assert "schedule  [schedule]" in lines and "filter  [[filters]]" in lines and "model  model.source" in lines
    broken = lines.index("broken: bad, of cli-bad 0.6")
    assert lines[broken + 1].startswith("    plugin 'bad' of cli-bad 0.6 cannot be imported: RuntimeError: out of luck")
    assert lines[-1].startswith("next: ") and all(len(line) <= 100 for line in lines)


def test_the_list_breaks_between_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = ask(capsys)
    known = {word for strategy in STRATEGIES for word in (strategy.__doc__ or "").split()}
    known |= {word.rstrip(".:") for word in known} | {"…"}
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    assert all(len(line) <= 60 or len(line.split()) == 1 for line in out.splitlines())
    assert [line for line in lines if line.split()[-1] not in known and "fttool-" not in line] == []


def test_one_family_and_a_word(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ask(capsys, "--family", "schedule", "--json")
    assert {row["id"] for row in json.loads(out)} == {one.id() for one in OURS.family("schedule")} | {"good.flat"}
    word = "decay"
    _, out, _ = ask(capsys, word.upper(), "--json")
    with_it = {s.id() for s in STRATEGIES if word in f"{s.id()} {s.__doc__} {[*s.model_fields]}".lower()}
    assert {row["id"] for row in json.loads(out)} == with_it and "wsd" in with_it < {s.id() for s in STRATEGIES}
    assert ask(capsys, word) == ask(capsys, "list", word)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--family", "schedul"], 2, "did you mean 'schedule'?"),
        (["zzzz"], 6, "no strategy mentions 'zzzz'"),
        (["cosin", "--family", "model"], 6, "no strategy mentions 'cosin'"),
        (["wsdd"], 6, "did you mean 'wsd'?"),
    ],
)
def test_what_is_not_there_is_said(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    got, out, err = ask(capsys, *words)
    assert (got, out) == (code, "") and said in err


# -- the pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["wsd", "schedule.wsd"])
def test_a_page_explains_a_strategy(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "show", wanted)
    assert code == 0
    assert out.startswith("schedule.wsd\n")
    assert "2404.06395" in out  # the paper
    assert "  decay            number, at least 0; default 0.1\n      " in out
    assert '[schedule]\n  name = "wsd"\n' in out


def test_a_page_of_somebody_elses(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ask(capsys, "show", "good.flat")
    assert code == 0
    assert "from cli-good 0.5, cli_good\n\nThe peak rate throughout.\n\nno options\n" in out


def test_an_unknown_strategy_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ask(capsys, "show", "cosin")
    assert (code, out) == (6, "")
    assert "no strategy is called 'cosin'" in err
    assert "did you mean 'cosine'?" in err


def test_debug_is_understood_behind_the_inner_verb() -> None:
    with pytest.raises(Exception, match="no strategy is called"):
        main(["plugins", "show", "cosin", "--debug"])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s.family}.{s.id()}")
def test_every_page_is_whole(strategy: type[Any]) -> None:
    text = page(strategy, OURS)
    for name in strategy.model_fields:
        assert name == "name" or f"\n  {name} " in text
    assert "anything" not in text, "an option whose type has no words"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s.family}.{s.id()}")
def test_every_example_is_valid(strategy: type[Any]) -> None:
    """The piece of recipe on the page, with the rest of a recipe around it."""
    whole = {"recipe": 1, "model": {"source": "x"}, "data": {"train": [{"path": "rows.jsonl"}]}}
    recipe = recipe_type(OURS.family).model_validate({**whole, **tomli.loads(example(strategy))})
    assert strategy in {type(one) for _, one in recipe.strategies()}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "minimum": 0, "maximum": 1}, "number, 0 to 1"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10}, "number, above 0, below 10"),
        ({"type": "integer", "minimum": 1}, "whole number, at least 1"),
        ({"type": "boolean"}, "true or false"),
        ({"enum": ["linear", "cosine"]}, '"linear" or "cosine"'),
        ({"const": "x"}, '"x"'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "whole number or text"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        (
            {"type": "array", "prefixItems": [{"type": "number"}] * 2, "minItems": 2, "maxItems": 2},
            "list of 2 × number",
        ),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "table of number"),
        ({"type": "string", "pattern": "^a"}, "text like ^a"),
        ({"$ref": "#/$defs/Beta"}, "number, at most 1"),
    ],
)
def test_types_in_words(schema: dict[str, Any], words: str) -> None:
    assert kind(schema, {"Beta": {"type": "number", "maximum": 1}}) == words
