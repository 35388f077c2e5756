"""Metrics of answers, against values by hand and naive twins; and in runs, where the answers are made."""

from __future__ import annotations

import importlib.util
import random
import re
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fttool.api import Answer, Example, MetricContext
from fttool.testing import run_recipe
from fttool_plugins.metric.answer_f1 import AnswerF1, f1
from fttool_plugins.metric.exact_match import ExactMatch
from fttool_plugins.metric.json_valid import JsonValid
from fttool_plugins.metric.normalised import normalised
from fttool_plugins.metric.rouge_l import RougeL

from ...rows import write_rows


def answers(*pairs: tuple[str, str]) -> list[Answer]:
    row = Example(origin="rows.jsonl:1", prompt="?")
    return [Answer(example=row, expected=expected, given=given) for expected, given in pairs]


def value(metric: Any, *pairs: tuple[str, str]) -> float:
    measure = metric.build(MetricContext())
    return measure.value(measure.answers(answers(*pairs)))


def twin_normalised(text: str) -> str:
    """Word by word, as the evaluation script's words say."""
    kept = "".join(one for one in text.lower() if one not in string.punctuation)
    return " ".join(word for word in kept.split() if word not in ("a", "an", "the"))


@pytest.mark.parametrize(
    "text", ["The  cat's\n hat.", "An apple, a pear", "a-b", "THE", "theatre an", "", "5.0 %", "a_the"]
)
def test_texts_are_compared_as_squad_does(text: str) -> None:
    assert normalised(text) == twin_normalised(text)


def test_exact_match() -> None:
    pairs = [("Blue.", " Blue.\n"), ("Blue.", "blue"), ("the cat", "Cat!"), ("5", "6")]
    assert value(ExactMatch(), *pairs) == 1 / 4
    assert value(ExactMatch(normalise=True), *pairs) == 3 / 4
    assert value(ExactMatch()) == 0


def twin_f1(given: str, expected: str) -> float:
    """Precision and recall, by striking out words."""
    ours, theirs = twin_normalised(given).split(), twin_normalised(expected).split()
    if not ours or not theirs:
        return float(ours == theirs)
    left, same = list(theirs), 0
    for word in ours:
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def test_f1_is_that_of_a_naive_twin() -> None:
    draw = random.Random(0)
    for _ in range(200):
        one, other = (
            " ".join(draw.choices(["The", "cat", "sat.", "mat", "a", "CAT"], k=draw.randrange(6))) for _ in "ab"
        )
        assert f1(one, other) == pytest.approx(twin_f1(one, other))
    assert value(AnswerF1(), ("the cat sat", "cat cat"), ("x", "x")) == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ('{"a": 1}', {}, True),
        ("5", {}, True),
        ("5", {"kind": "object"}, False),
        ("[1]", {"kind": "array"}, True),
        ("", {}, False),
        ("{'a': 1}", {}, False),
        ("NaN", {}, False),
        ('{"a": Infinity}', {}, False),
        ('{"a": 1} and more', {}, False),
        ('```json\n{"a": 1}\n```', {}, False),
        ('```json\n{"a": 1}\n```', {"fenced": True}, True),
        ('Here:\n```json\n{"a": 1}\n```', {"fenced": True}, False),
        ("[" * 100_000, {}, False),
    ],
)
def test_json_is_told_from_what_is_none(text: str, options: dict[str, Any], said: bool) -> None:
    assert value(JsonValid(**options), ("", text)) == said


def twin_rouge_l(given: str, expected: str) -> float:
    """The longest common subsequence by recursion over all of them."""
    from functools import lru_cache

    ours, theirs = (re.findall("[a-z0-9]+", text.lower()) for text in (given, expected))

    @lru_cache
    def longest(i: int, j: int) -> int:
        if i == len(ours) or j == len(theirs):
            return 0
        if ours[i] == theirs[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    same = longest(0, 0)
    return 2 * same / (len(ours) + len(theirs)) if same else 0.0


@pytest.mark.skipif(importlib.util.find_spec("rouge_score") is None, reason="needs rouge-score")
def test_rouge_l_is_that_of_a_naive_twin() -> None:
    draw = random.Random(1)
    for _ in range(50):
        one, other = (" ".join(draw.choices(["The", "cat", "sat.", "on", "5"], k=draw.randrange(9))) for _ in "ab")
        assert value(RougeL(), (one, other)) == pytest.approx(twin_rouge_l(one, other))
    assert value(RougeL(stem=True), ("running", "runs")) == 1 > value(RougeL(), ("running", "runs"))


def test_without_its_package_rouge_l_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fttool_plugins.metric.rouge_l.find_spec", lambda name: None)
    recipe: Any = SimpleNamespace()
    [problem] = RougeL().check(recipe)
    assert "rouge-score, which is not installed" in problem.message and "fttool[rouge]" in problem.hint


# -- in runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    return {
        **fttool_recipe,
        "run": {"max_steps": 2, "micro_batch": 4},
        "data": {**fttool_recipe["data"], "eval_share": 0.4},
        "evaluation": {
            "metrics": ["exact-match", "loss", {"name": "answer-f1"}],
            "generate": {"rows": 5, "max_tokens": 6, "micro_batch": 2},
            "samples": 1,
        },
    }


def test_a_run_measures_answers(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that the model gives now: planted, one in five is right; beside predictions, in the recipe's order."""
    from fttool.training.answering import Answering

    asked: list[tuple[int, int]] = []
    real = Answering.ask

    def ask(self: Answering, prompts: Any, longest: int, temperature: float = 0.0) -> list[str]:
        asked.append((len(prompts), longest))
        found = real(self, prompts, longest, temperature)
        return ["nothing like it"] * (len(found) - 1) + [self.planted] if len(found) == 5 else found  # type: ignore[attr-defined]

    from fttool.training import evaluation

    def spaced(some: Any, number: int) -> Any:
        found = real_spaced(some, number)
        Answering.planted = evaluation.expected_answer(found[-1])  # type: ignore[attr-defined]
        return found

    real_spaced = evaluation.spaced
    monkeypatch.setattr(evaluation, "spaced", spaced)
    monkeypatch.setattr(Answering, "ask", ask)
    done = run_recipe(recipe, tmp_path)
    assert done.error is None, done.error
    after = done.summary["eval"]["after"]
    assert list(after) == ["exact-match", "loss", "answer-f1"]
    assert after["exact-match"] == 1 / 5 and 1 / 5 <= after["answer-f1"] < 1
    assert asked == [(5, 6), (1, 64), (5, 6), (5, 6), (1, 64)] or asked == [(5, 6), (1, 64), (5, 6), (1, 64)]
    answering = done.summary["answering"]
    assert answering["answers"] == 5 * asked.count((5, 6)) and answering["seconds"] > 0 and answering["tokens"] > 0
    assert answering["one_by_one"] == ""


def test_the_closing_screen_says_what_answers_took(recipe: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    import tomli_w

    from fttool.cli import main

    (tmp_path / "r.toml").write_text(
        tomli_w.dumps({**recipe, "run": {**recipe["run"], "output": str(tmp_path / "runs")}})
    )
    assert main(["run", str(tmp_path / "r.toml")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"generated for metrics: \d+ answers, [\d,]+ tokens in \d+\.\d s$", shown, re.MULTILINE), shown


def test_rows_are_evenly_spaced() -> None:
    from fttool.training.evaluation import spaced

    assert spaced(range(10), 4) == [0, 2, 5, 7] and spaced(range(3), 4) == [0, 1, 2] and spaced([], 4) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"eval_share": 0.0}}, "exact-match looks at answers to evaluation rows, and there are none"),
        ({"evaluation": {"metrics": ["loss"]}}, "evaluation.generate bounds the answers that metrics look at"),
    ],
)
def test_what_would_do_nothing_is_refused(
    recipe: dict[str, Any], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    merged = {table: {**recipe[table], **values} for table, values in changes.items()}
    assert said in str(run_recipe({**recipe, **merged}, tmp_path).error)


def test_rows_without_a_prompt_are_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    write_rows(path, ({"text": f"a text of number {n}"} for n in range(12)))
    recipe["data"] = {"train": [{"path": str(path), "format": "text"}], "eval_share": 0.4}
    done = run_recipe(recipe, tmp_path)
    assert "no evaluation row has a prompt" in str(done.error) and done.exit_code == 3


def test_classes_are_not_answers(recipe: dict[str, Any], tmp_path: Path) -> None:
    done = run_recipe({**recipe, "task": "classification"}, tmp_path)
    assert done.exit_code == 3 and "exact-match" in str(done.error)


def test_the_best_checkpoint_may_be_chosen_by_answers(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["evaluation"] |= {"best": "answer-f1", "every": 1}
    done = run_recipe(recipe, tmp_path)
    assert done.error is None and done.summary["best"]["step"] in (0, 1, 2)
    assert all("eval_answer-f1" in line for line in done.metrics if "eval_loss" in line)
