"""Bad rows are refused together, or left out up to a ceiling with a list of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.errors import DataError
from fttool.recipe.reading import load
from fttool.rows.chat import CHATML, apply_template
from fttool.rows.checks.bad import alike
from fttool.rows.data import prepare
from fttool.rows.rows import Rows
from fttool.testing import tiny_tokenizer

from ....rows import write_rows


def row(answer: str = "Fine.", question: str = "How?") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def read(tmp_path: Path, rows: list[dict[str, Any]], more: dict[str, Any] | None = None, **table: Any) -> Rows:
    write_rows(tmp_path / "rows.jsonl", rows)
    data = {"train": [{"path": "rows.jsonl", **table}], **(more or {})}
    (tmp_path / "recipe.toml").write_text(dumps({"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data}))
    tokenizer = tiny_tokenizer()
    template = tmp_path / "template.jinja"
    apply_template(tokenizer, "template.jinja" if template.exists() else None, tmp_path)
    return prepare(load(tmp_path / "recipe.toml"), tokenizer)


def refusal(tmp_path: Path, rows: list[dict[str, Any]], **table: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, rows, **table)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("seed", range(5))
def test_bad_rows_are_left_out_and_listed(tmp_path: Path, seed: int) -> None:
    """Planted at random: the list has just them, and the rest is as without them."""
    draw = random.Random(seed)
    rows = [row(f"Answer {n}.") for n in range(60)]
    planted = sorted(draw.sample(range(60), 3))
    for place in planted:
        rows[place] = draw.choice([row(""), {"other": 1}, {"messages": 3}])
    found = read(tmp_path, rows, on_bad_row="drop")
    assert [one.row for one in found.gone] == [f"{tmp_path}/rows.jsonl:{place + 1}" for place in planted]
    assert all(one.dataset == "rows" and one.reason and one.excerpt for one in found.gone)
    assert sum(count for reason, count in found.dropped.items() if reason.startswith("bad: ")) == 3
    assert list(found.train) == list(read(tmp_path, [one for n, one in enumerate(rows) if n not in planted]).train)
    assert any(notice.startswith("rows: 3 of 60 rows are bad and left out: ") for notice in found.notices)


@pytest.mark.parametrize(
    ("ceiling", "bad", "fits"),
    [
        ({}, 5, True),
        ({}, 6, False),
        ({"max_bad_rows": 0.01}, 1, True),
        ({"max_bad_rows": 0.01}, 2, False),
        ({"max_bad_rows": 7}, 7, True),
        ({"max_bad_rows": 7}, 8, False),
        ({"max_bad_rows": 0}, 1, False),
    ],
)
def test_there_is_a_ceiling(tmp_path: Path, ceiling: dict[str, Any], bad: int, fits: bool) -> None:
    rows = [row("" if n < bad else "Fine.") for n in range(100)]
    if fits:
        assert len(read(tmp_path, rows, on_bad_row="drop", **ceiling).train) == 100 - bad
        return
    said = refusal(tmp_path, rows, on_bad_row="drop", **ceiling)
    assert (
        f"{bad} of 100 rows {'is' if bad == 1 else 'are'} bad, more than max_bad_rows = " in said
        and said.startswith("rows.jsonl:1: ")
    )


def test_rows_that_masking_cannot_take_are_bad_too(tmp_path: Path) -> None:
    """Also those of the evaluation share, which are told by the dataset that they come from."""
    rows = [*(row(f"Answer {n}.") for n in range(40)), row(question="UNWRITABLE")]
    (tmp_path / "template.jinja").write_text(
        "{% for m in messages %}{% if m.content == 'UNWRITABLE' %}{{ raise_exception('No.') }}{% endif %}{% endfor %}"
        + CHATML
    )
    assert "rows.jsonl:41: " in refusal(tmp_path, rows)
    for share in (0.0, 0.9):
        found = read(tmp_path, rows, {"eval_share": share}, on_bad_row="drop")
        assert [one.row for one in found.gone if one.reason not in found.dropped] == [f"{tmp_path}/rows.jsonl:41"]
        assert len(found.train) + len(found.eval) == 40


def test_what_the_template_does_wrong_is_not_the_rows_fault(tmp_path: Path) -> None:
    """Where it is to blame for all that is bad, another template is the advice; a bad row beside is to be mended."""
    rows = [row(f"Answer {n}.", question="SHOUT" if n < 3 else "What?") for n in range(40)]
    shouts = "(message['content'] | upper if messages[0]['content'] == 'SHOUT' else message['content'])"
    (tmp_path / "template.jinja").write_text(CHATML.replace("message['content']", shouts))
    said = refusal(tmp_path, rows)
    assert "rows.jsonl:1: the chat template rewrites the text of message 2" in said and "(also at :2, :3)" in said
    assert 'choose another chat template: model.chat_template = "chatml", or a Jinja file' in said
    assert "fix or delete" not in said
    said = refusal(tmp_path, [*rows, row("<think>It is never closed.")])
    assert "choose another chat template" in said and "fix or delete this row" in said


def test_a_broken_file_is_refused_all_the_same(tmp_path: Path) -> None:
    read(tmp_path, [row()] * 3, on_bad_row="drop")
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("{")
    with pytest.raises(DataError, match="the last line is cut off"):
        prepare(load(tmp_path / "recipe.toml"), tiny_tokenizer())


def test_the_places_of_rows_that_are_left_out_stand_together(tmp_path: Path) -> None:
    found = read(tmp_path, [row(), row(""), row("Yes."), row("")], on_bad_row="drop", max_bad_rows=2)
    wrong = "turn 2 of 'messages' (assistant) is empty; only an assistant turn with tool_calls may go without"
    place = f"{tmp_path}/rows.jsonl:2, also at :4"
    assert found.notices == [f"rows: 2 of 4 rows are bad and left out: {wrong} ({place})"]


def test_alike_rows_are_named_together() -> None:
    found = [(f"f.jsonl:{n}", f"turn {n} of 'messages' is empty") for n in range(1, 8)] + [("f.jsonl:9", "another")]
    assert [str(problem) for problem in alike(found)] == [
        "f.jsonl:1: turn 1 of 'messages' is empty (also at :2, :3, :4, :5 and 2 more)",
        "f.jsonl:9: another",
    ]
    texts = [("a.txt", f"the text '{'x' * 20} {word}' is odd") for word in ("one", "two")] + [
        ("b.txt", "the text '' is odd")
    ]
    assert [problem.where for problem in alike(texts)] == ["a.txt", "b.txt"]
    kinds = [(f"f:{n}", f"fault {'abcdefgh'[n]}") for n in range(8)]
    assert len(alike(kinds)) == 5 and "(and 3 more bad rows of 3 other kinds)" in alike(kinds)[-1].message
