"""`fttool decide`: from when on fine-tuning costs less, and what rules of thumb say of the rows."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.api import Example
from fttool.cli import main
from fttool_plugins.verbs.decide import crossover
from fttool_plugins.verbs.decide.counting import requests_of
from fttool_plugins.verbs.decide.crossover import Case, break_even, sensitivities, totals, why_never
from fttool_plugins.verbs.decide.rules import rules

from ...rows import write_rows

ARTICLE = ["--prompt-tokens", "1000", "--tuned-prompt-tokens", "50", "--input-price", "10", "--training", "100-1000"]


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What `--json` prints."""
    code = main(["decide", *words, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit code and what is said on stderr; nothing on stdout."""
    try:
        code = main(["decide", *words])
    except SystemExit as left:
        code = int(left.code or 0)
    said = capsys.readouterr()
    assert code and not said.out
    assert len(said.err.splitlines()) < 40 and "Traceback" not in said.err
    return code, said.err


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_the_published_case_breaks_even_where_it_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, *ARTICLE)["crossover"]
    low, _, high = found["break_even"]["requests"]
    assert (round(low), round(high)) == (10_526, 105_263)
    million = next(one for one in found["totals"] if one["requests"] == 1_000_000)
    assert million["prompted"] == pytest.approx(10_000) and million["tuned"] == pytest.approx(500)


def some_case(rng: random.Random) -> Case:
    """Of any kind; what would need more than some thousand requests is rare."""
    monthly = rng.random() < 0.5
    return Case(
        prompt_tokens=rng.choice([0, 10, 1_000, 20_000]) * rng.random(),
        tuned_prompt_tokens=rng.choice([0, 10, 500]) * rng.random(),
        output_tokens=rng.choice([0, 50, 500]),
        input_price=rng.choice([0, 0.1, 3, 10]),
        cached_price=rng.choice([0, 0.3]),
        cached_share=rng.choice([0, 0, 0.5, 1]),
        output_price=rng.choice([0, 15]),
        tuned_input_price=rng.choice([None, 0, 6]),
        tuned_output_price=rng.choice([None, 0, 30]),
        hosting=rng.choice([0, 0.01]) if monthly else 0,
        training=rng.choice([0.1, 1, 5]),
        retrain=rng.choice([0, 1]) if monthly else 0,
        requests=rng.choice([10, 1_000]),
    )


def simulated(case: Case, most: int) -> int | None:
    """The first request after which the prompted model has cost more, paid for token by token and hour by hour."""
    tuned_in = case.input_price if case.tuned_input_price is None else case.tuned_input_price
    tuned_out = case.output_price if case.tuned_output_price is None else case.tuned_output_price
    assert case.requests
    hours = 24 / case.requests
    month = 365.25 * 24 / 12
    prompted, tuned = 0.0, case.training
    for request in range(1, most + 1):
        kept = case.prompt_tokens * case.cached_share
        prompted += (case.prompt_tokens - kept) * case.input_price / 1e6 + kept * case.cached_price / 1e6
        prompted += case.output_tokens * case.output_price / 1e6
        tuned += case.tuned_prompt_tokens * tuned_in / 1e6 + case.output_tokens * tuned_out / 1e6
        tuned += hours * case.hosting + hours / month * case.retrain * case.training
        if prompted > tuned:
            return request
    return None


def test_random_cases_break_even_where_request_by_request_they_do() -> None:
    rng, most = random.Random(5), 4_000
    reached = 0
    for _ in range(300):
        case = some_case(rng)
        twin, exact = simulated(case, most), break_even(case)
        if twin is None:
            assert exact > most - 1
        else:
            reached += 1
            assert twin - 1 - 1e-6 * twin <= exact <= twin + 1e-6 * twin
    assert 30 < reached < 270  # both kinds are there


def test_totals_are_those_of_so_many_requests() -> None:
    rng = random.Random(7)
    for _ in range(50):
        case = replace(some_case(rng), training=0.0, retrain=0.0, hosting=0.0)
        found = totals(case, 12)
        assert found.prompted == pytest.approx(sum(case.prompted for _ in range(12)))
        assert found.tuned == pytest.approx(sum(case.tuned for _ in range(12)))


def test_what_never_breaks_even_is_said_in_words() -> None:
    longer = Case(prompt_tokens=50, tuned_prompt_tokens=1000, input_price=10, training=100)
    assert math.isinf(break_even(longer)) and "no number of requests" in why_never(longer)
    same = replace(longer, tuned_prompt_tokens=50)
    assert math.isinf(break_even(same)) and "as much as" in why_never(same)
    hosted = Case(
        prompt_tokens=1000, tuned_prompt_tokens=0, input_price=10, training=0, hosting=1, requests=100, retrain=0
    )
    assert math.isinf(break_even(hosted))
    # $730.50 a month at a cent each are 73,050 requests, 2,400 a day.
    assert "2,400 requests a day" in why_never(hosted)
    assert break_even(replace(hosted, requests=2_500, training=1)) < math.inf


def test_an_assumption_is_halved_and_doubled_by_itself() -> None:
    case = Case(prompt_tokens=1000, tuned_prompt_tokens=50, input_price=10, training=100)
    found = {one.field: one for one in sensitivities(case)}
    assert found["training"].halved == pytest.approx(50 / 0.0095)
    assert found["training"].doubled == pytest.approx(200 / 0.0095)
    assert found["prompt_tokens"].halved == pytest.approx(100 / 0.0045)
    assert found["input_price"].doubled == pytest.approx(100 / 0.019)
    assert {*found} == {"training", "prompt_tokens", "tuned_prompt_tokens", "input_price"}  # the rest is 0
    swings = [one.swing for one in sensitivities(case)]
    assert swings == sorted(swings, reverse=True)
    assert {*crossover.ASSUMPTIONS} == {*Case.__dataclass_fields__}


def test_hosting_means_that_tokens_cost_nothing_unless_they_are_priced(capsys: pytest.CaptureFixture[str]) -> None:
    hosted = [*ARTICLE, "--hosting", "0.01", "--requests", "1000"]
    assert asked(capsys, *hosted)["crossover"]["assumed"]["tuned_input_price"] == 0
    assert asked(capsys, *hosted, "--tuned-input-price", "2")["crossover"]["assumed"]["tuned_input_price"] == 2
    assert asked(capsys, *ARTICLE)["crossover"]["assumed"]["tuned_input_price"] is None


def test_what_is_cached_is_what_fine_tuning_saves_of_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, *ARTICLE, "--cached-price", "1")["crossover"]
    assert found["assumed"]["cached_share"] == pytest.approx(0.95)
    assert found["dollars_a_request"]["prompted"] == pytest.approx((950 * 1 + 50 * 10) / 1e6)


def test_the_screen_names_the_days_and_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decide", *ARTICLE, "--requests", "1000"]) == 0
    said = capsys.readouterr().out
    assert "from 57,895 requests on (10,526–105,263), which is 57.9 days at 1,000 a day" in said
    assert main(["decide", *ARTICLE[:-1], "0"]) == 0
    assert "from the first request on" in capsys.readouterr().out


def test_a_picture_shows_both_lines_and_where_they_cross(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cost.svg"
    assert main(["decide", *ARTICLE, "--plot", str(file)]) == 0
    assert file.read_text().lstrip().startswith("<?xml")
    figure_module = pytest.importorskip("matplotlib.figure")
    from fttool_plugins.verbs.decide.deciding import Crossover
    from fttool_plugins.verbs.decide.picture import fill
    from fttool_plugins.verbs.decide.training_cost import TrainingCost
    from fttool_plugins.verbs.estimate.price import Span

    case = Case(prompt_tokens=1000, tuned_prompt_tokens=50, input_price=10, training=550)
    for one in (case, replace(case, input_price=0), replace(case, training=0)):
        figure = figure_module.Figure()
        fill(figure, Crossover(case=one, training=TrainingCost(Span(100, one.training, 1000), "as given")))
        axes = figure.axes[0]
        assert [line.get_label() for line in axes.lines[:2]] == ["prompted", "fine-tuned, with training"]
        if one is case:
            drawn = sorted(float(line.get_xdata()[0]) for line in axes.lines[2:])
            assert drawn == pytest.approx([100 / 0.0095, 550 / 0.0095, 1000 / 0.0095])
    capsys.readouterr()


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path, fttool_recipe: dict[str, Any]) -> Callable[..., str]:
    """Write the tiny recipe with rows of its own, and some of its tables changed."""

    def call(rows: Sequence[Any], **tables: Any) -> str:
        write_rows(tmp_path / "own.jsonl", rows)
        data = {"train": [{"path": "own.jsonl"}]}
        (tmp_path / "my.toml").write_text(dumps({**fttool_recipe, "data": data, **tables}))
        return str(tmp_path / "my.toml")

    return call


def talk(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_tokens_of_requests_are_counted_in_the_rows(
    write: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = write([talk("Is 1 odd?", "Yes."), talk("Is 2 odd, as you were asked before?", "No, it is even.")] * 3)
    (tmp_path / "told.txt").write_text("Answer shortly.")
    priced = [recipe, "--input-price", "3", "--training", "1"]
    bare = asked(capsys, *priced, "--shots", "0")
    counted = bare["requests_in_rows"]
    assert counted["requests"] == counted["rows"] == 6
    assert bare["crossover"]["assumed"]["prompt_tokens"] == counted["prompt"]
    assert "never costs less" in bare["crossover"]["verdict"]
    shown = asked(capsys, *priced, "--shots", "2", "--instructions", str(tmp_path / "told.txt"))
    assumed, told = shown["crossover"]["assumed"], shown["requests_in_rows"]["instructions"]
    assert told > 0 and assumed["output_tokens"] == counted["answer"] > 0
    assert assumed["prompt_tokens"] == pytest.approx(3 * counted["prompt"] + 2 * counted["answer"] + told)
    said = asked(capsys, *priced, "--prompt-tokens", "900", "--tuned-prompt-tokens", "9", "--output-tokens", "4")
    assert [
        said["crossover"]["assumed"][name] for name in ("prompt_tokens", "tuned_prompt_tokens", "output_tokens")
    ] == [
        900,
        9,
        4,
    ]


def test_each_learned_stretch_is_a_request() -> None:
    labels = [-100] * 4 + [5, 6] + [-100] * 3 + [7]
    assert list(requests_of(labels)) == [(4, 2), (9, 1)]
    assert list(requests_of([1, 2, 3])) == [(0, 3)]
    assert list(requests_of([-100, -100])) == []


def test_training_is_estimated_for_gpus(write: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write([talk("Is 1 odd?", "Yes.")] * 8)
    found = asked(capsys, recipe, "--input-price", "3", "--gpus", "h100", "--price", "2.5")["crossover"]["training"]
    assert found["source"].startswith("estimated for 1 × h100") and 0 < found["dollars"][0] < found["dollars"][2]


# -- rules of thumb ----------------------------------------------------------------------------------------------------


def classed(counts: dict[str, int]) -> list[Example]:
    return [Example(origin="x:1", prompt="a", labels=(name,)) for name, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("level", "examples", "verdicts"),
    [
        ("token", [Example(origin="x:1", prompt="a", completion="b")] * 99, ["prompt", "few"]),
        ("token", [Example(origin="x:1", prompt="a", completion="b")] * 1_000, ["enough", "enough"]),
        ("token", [Example(origin="x:1", completion="b")] * 10_000, ["enough", "enough"]),
        ("token", [Example(origin="x:1", completion="b")] * 9_999, ["enough", "few"]),
        ("token", [Example(origin="x:1", completion="b")] * 100_001, ["enough", "more than usual"]),
        ("row", classed({"ham": 5_001, "spam": 499}), ["enough", "few"]),
        ("row", classed({"ham": 5_001, "spam": 500}), ["enough", "enough"]),
        ("row", classed({"ham": 5_001, "spam": 5_001}), ["enough", "more than usual"]),
        ("word", [Example(origin="x:1", prompt="a", words=((0, 1),), labels=("O",))] * 4_999, ["enough", "few"]),
        ("word", [Example(origin="x:1", prompt="a", words=((0, 1),), labels=("O",))] * 5_000, ["enough", "enough"]),
        ("number", [Example(origin="x:1", prompt="a", labels=("1.5",))] * 50, ["prompt"]),
    ],
)
def test_rules_go_by_the_task_and_the_number_of_rows(level: str, examples: list[Example], verdicts: list[str]) -> None:
    said = list(rules("task", level, examples))
    assert [one.verdict for one in said] == verdicts
    assert all(one.source and one.advice and any(letter.isdigit() for letter in one.rule) for one in said)


def test_a_recipe_without_prices_gets_the_rules(write: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decide", write([talk("Is 1 odd?", "Yes.")] * 8), "-q"]) == 0
    said = capsys.readouterr().out
    assert "under 100 examples: prompt. Here: 8 training rows" in said and "--input-price" in said


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a recipe or a file of rows"),
        (["--input-price", "10"], "name a recipe or a file of rows"),
        ([*ARTICLE, "--input-price", "-1"], "not a price"),
        ([*ARTICLE, "--output-price", "nan"], "not a price"),
        ([*ARTICLE, "--training", "9-1"], "ends below its start"),
        ([*ARTICLE, "--prompt-tokens", "0"], "above 0"),
        ([*ARTICLE, "--prompt-tokens", "1e400"], "above 0"),
        ([*ARTICLE, "--requests", "0"], "above 0"),
        ([*ARTICLE, "--retrain", "-1"], "at least 0"),
        ([*ARTICLE, "--retrain", "1"], "--requests 1000"),
        ([*ARTICLE, "--hosting", "1"], "--requests 1000"),
        ([*ARTICLE, "--cached-share", "0.5"], "--cached-price"),
        ([*ARTICLE, "--cached-share", "1.5", "--cached-price", "1"], "not a share"),
        ([*ARTICLE, "--input-price", "1e308"], "too large"),
        ([*ARTICLE, "--measure"], "needs a recipe"),
        ([*ARTICLE, "--gpus", "h100"], "needs a recipe"),
        ([*ARTICLE, "--shots", "3"], "needs a recipe"),
        (["my.toml", "--requests", "5"], "--requests is for the cost"),
        (["my.toml", "--gpus", "h100"], "--gpus is for the cost"),
        (["my.toml", "--input-price", "1", "--training", "5", "--gpus", "h100"], "--training and --gpus say the same"),
        (["my.toml", "--input-price", "1", "--prompt-tokens", "5", "--shots", "1"], "say the same"),
        (["my.toml", "--budget", "10m"], "--measure"),
        ([*ARTICLE, "--plot", "cost.txt"], "suffix of an image"),
        ([*ARTICLE, "--plot", "nowhere/cost.png"], "does not exist"),
        (ARTICLE[:-2], "what training costs is not known"),
        (["nothing.toml"], "nothing.toml"),
        (["nothing.jsonl"], "there is no"),
    ],
)
def test_bad_words_are_refused_on_one_screen(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = refused(capsys, *words)
    assert code in (2, 3) and said in text
    assert code == 2 or words == ["nothing.toml"]


def test_rows_and_models_that_are_not_there(write: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write([])
    assert refused(capsys, recipe)[0] == 4
    recipe = write([{"nothing": 1}])
    assert refused(capsys, recipe)[0] == 4
    recipe = write([talk("Is 1 odd?", "Yes.")] * 8)
    assert refused(capsys, recipe, "--model", "nobody")[0] == 2
    assert refused(capsys, recipe, "--set", "model.source=/no/such/model")[0] in (3, 5)
    assert refused(capsys, recipe, "--input-price", "5")[0] == 2
    code, said = refused(capsys, recipe, "--input-price", "3", "--gpus", "h1000")
    assert code == 2 and "h100" in said
    code, said = refused(capsys, recipe, "--input-price", "3", "--instructions", "/no/such/file")
    assert code == 2 and "No such file" in said


def test_figures_alone_import_nothing_heavy() -> None:
    check = (
        "import sys; from fttool.cli import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", check, "decide", *ARTICLE], check=True, capture_output=True)
