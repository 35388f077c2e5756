"""Rows that share words with what is measured on: held to a search for each stretch of words in plain text."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from fttool.api import DataError, Example, Kept, Verdict
from fttool.testing import filter_context
from fttool_plugins.filter.overlap import Overlap

REASON = "overlaps an evaluation row"
VOCABULARY = [f"word{number}" for number in range(2000)]


def row(question: str, answer: str, system: str = "", origin: str = "rows.jsonl:1") -> Example:
    turns = [{"role": "system", "content": system}] if system else []
    turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Example(origin=origin, messages=tuple(turns), completion_from=len(turns) - 1)


def verdicts(rows: Sequence[Example], measured: Sequence[Example], **options: object) -> list[Verdict]:
    return list(Overlap(**options).build(filter_context(measured_rows=measured))(rows))  # type: ignore[arg-type]


def text(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(VOCABULARY, k=count))


@pytest.mark.parametrize("n", [2, 5, 13])
def test_every_planted_stretch_is_found_and_no_shorter_one(n: int) -> None:
    """A stretch of n words, in capitals and with other punctuation, is found; one of n − 1 is not."""
    draw = random.Random(n)
    measured = [row(text(draw, 20), text(draw, 40)) for _ in range(20)]
    rows: list[Example] = []
    for number in range(200):
        length = n - number % 2
        words = str(draw.choice(measured).messages[draw.randrange(2)]["content"]).split()
        start = draw.randrange(len(words) - length + 1)
        stretch = ", ".join(words[start : start + length]).upper()
        rows.append(row(f"{draw.random()} is it?", f"{text(draw, 5)} — {stretch}! other{number} {text(draw, 5)}"))
    found = verdicts(rows, measured, n=n)
    assert [verdict == REASON for verdict in found] == [number % 2 == 0 for number in range(200)]


def test_short_questions_are_compared_as_a_whole_and_short_answers_are_not() -> None:
    measured = [row("How do I use `math.gcd`?", "Yes, it is so."), row("Where is Paris?", "In France, I think.")]
    rows = [
        row("how do I use math gcd", "Something else."),
        row("How do I use `math.lcm`?", "Yes, it is so."),
        row("Where is Paris?", "On a map."),
        row("Where is Paris?", "in France; I think"),
        row("And now: how do I use `math.gcd`?", "Like that."),
    ]
    assert verdicts(rows, measured) == [REASON, None, None, REASON, None]


def test_what_many_rows_begin_with_is_a_phrase_and_no_overlap() -> None:
    draw = random.Random(0)
    task = text(draw, 20)
    measured = [row(f"{task} {text(draw, 20)}", "yes", system=text(draw, 30)) for _ in range(3)]
    rows = [row(f"{task} {text(draw, 20)}", "no", system=str(measured[0].messages[0]["content"])) for _ in range(30)]
    leaked = row(str(measured[1].messages[1]["content"]), "no")
    assert verdicts([*rows, leaked], measured) == [None] * 30 + [REASON]
    assert verdicts([leaked] * 20, measured) == [REASON] * 20  # copies of one row do not make it a phrase
    assert verdicts(rows[:5], measured) == [REASON] * 5


def test_scripts_without_blanks_are_compared_by_characters() -> None:
    measured = [row("巴黎是法国的首都，也是法国最大的城市。", "是的")]
    rows = [
        row("你知道吗？巴黎是法国的首都，也是法国最大的城市！", "好"),
        row("柏林是德国的首都，也是德国最大的城市。", "好"),
    ]
    assert verdicts(rows, measured) == [REASON, None]


def test_plain_text_and_rows_with_classes_are_compared() -> None:
    words = text(random.Random(1), 15)
    measured = [Example(origin="e:1", prompt=words, labels=("spam",))]
    rows = [
        Example(origin="r:1", prompt=f"Re: {words}", labels=("ham",)),
        Example(origin="r:2", completion=f"{words}."),
        Example(origin="r:3", prompt="another text", labels=("spam",)),
    ]
    assert verdicts(rows, measured) == [REASON, REASON, None]
    assert verdicts(rows, measured, action="flag") == [Kept(REASON), Kept(REASON), None]


def test_rows_that_are_set_aside_are_evaluation_rows() -> None:
    """Those of the other side are held against them, wherever they stand; they are not, and not against each other."""
    draw = random.Random(3)
    stretch, other = text(draw, 15), text(draw, 15)
    rows = [
        row("First?", f"{stretch} one", origin="r:1"),
        row("Second?", f"So {stretch} two", origin="r:2"),
        row("Third?", f"And {stretch} three", origin="r:3"),
        row("Fourth?", f"{other} four", origin="r:4"),
        row("Fifth?", f"{other} five", origin="r:5"),
    ]
    context = filter_context(measured=lambda example: example.origin in ("r:2", "r:3"))
    found = list(Overlap().build(context)(rows))
    assert found == [REASON, None, None, None, None] and found[0].like == "r:2"  # type: ignore[union-attr]
    everywhere = filter_context(measured=lambda example: example.origin == "r:2", measured_rows=[rows[0]])
    assert list(Overlap().build(everywhere)(rows)) == [REASON, REASON, REASON, None, None]


def test_benchmarks_are_files_of_json_lines_json_or_text(tmp_path: Path) -> None:
    draw = random.Random(2)
    texts = [text(draw, 15) for _ in range(3)]
    (tmp_path / "quiz.jsonl").write_text(json.dumps({"id": 1, "choices": ["Paris", {"text": texts[0]}]}) + "\n\n")
    (tmp_path / "quiz.json").write_text(json.dumps([{"question": "short"}, {"question": texts[1]}]))
    (tmp_path / "quiz.txt").write_text(f"first line\n{texts[2]}\n")
    files = ("quiz.jsonl", "quiz.json", "quiz.txt")
    rows = [row("?", f"So: {one}") for one in texts]
    found = list(Overlap(files=files).build(filter_context(folder=tmp_path))([*rows, row("?", "Paris")]))
    assert found == [*(f"overlaps a row of {name}" for name in files), None]
    assert [verdict.like for verdict in found[:3]] == ["quiz.jsonl:1", "quiz.json:2", "quiz.txt:2"]  # type: ignore[union-attr]


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (problem,) = Overlap(files=("gone.jsonl",)).check_files(None, tmp_path)  # type: ignore[arg-type]
    assert "gone.jsonl" in problem.message and problem.key == ("files", 0)
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"broken\.jsonl:2 is not JSON"):
        Overlap(files=("broken.jsonl",)).build(filter_context(folder=tmp_path))([row("?", "a")])
