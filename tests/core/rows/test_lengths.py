"""Rows of more tokens than fit: what is left of them, and what is counted as lost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.contracts.rows import Encoded, Example
from fttool.errors import RecipeError
from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.rows.lengths import fitted
from fttool.rows.rows import Rows
from fttool.testing import tiny_tokenizer
from fttool_plugins.batching.padded import Padded

from ...rows import write_rows

SYSTEM = {"role": "system", "content": "Be kind."}


def talk(answers: int, words: int = 4, *, system: bool = True, start: int = 0) -> list[dict[str, Any]]:
    """Questions and answers, of words that occur once each."""
    turns: list[dict[str, Any]] = [SYSTEM] if system else []
    for number in range(start, start + answers):
        turns.append({"role": "user", "content": f"Q{number}?"})
        turns.append({"role": "assistant", "content": " ".join(f"a{number}x{word}" for word in range(words))})
    return turns


def read(folder: Path, rows: list[dict[str, Any]], format_id: str = "messages", **recipe: Any) -> Rows:
    batching = {"name": "padded", **recipe.pop("batching")}
    write_rows(folder / "rows.jsonl", rows)
    data = {"train": [{"path": "rows.jsonl", "format": format_id}]}
    tables = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data, "batching": batching, **recipe}
    (folder / "recipe.toml").write_text(dumps(tables))
    return prepare(load(folder / "recipe.toml"), tiny_tokenizer())


def learned(row: Encoded) -> str:
    return str(tiny_tokenizer().decode([label for label in row.labels[1:] if label != -100]))


def whole(folder: Path, row: dict[str, Any], format_id: str = "messages", **recipe: Any) -> Encoded:
    (encoded,) = read(folder, [row], format_id, batching={"max_length": 4096}, **recipe).train
    return encoded


@pytest.mark.parametrize("seed", range(20))
def test_windows_hold_every_token_and_learn_every_label_once(seed: int) -> None:
    draw = random.Random(seed)
    ids = draw.sample(range(10_000), draw.randint(11, 200))
    labels = [token if draw.random() < 0.7 else -100 for token in ids]
    length, overlap = draw.randint(8, 10), draw.randint(1, 7)
    batching = Padded(max_length=length, overlap=overlap, too_long="split")
    became = fitted(Example(origin="r:1", completion="x"), Encoded(ids, labels), batching, lambda _: Encoded([], []))
    seen: list[int] = []
    for number, (row, example) in enumerate(became.rows, 1):
        assert len(row.input_ids) <= length and row.labels[0] == -100
        start = ids.index(row.input_ids[0])
        assert row.input_ids == ids[start : start + len(row.input_ids)], "a window is a stretch of the row"
        seen += [label for label in row.labels if label != -100]
        assert example.origin.startswith("r:1#") and (number > 1) <= (example.origin != "r:1#1")
    assert seen == [label for label in labels[1:] if label != -100]
    assert not became.lost


def test_a_text_is_split_into_windows(tmp_path: Path) -> None:
    text = {"text": " ".join(f"w{number}" for number in range(60))}
    ids = whole(tmp_path, text, "text").input_ids
    rows = read(tmp_path, [text, {"text": "short"}], "text", batching={"max_length": 40, "too_long": "split"})
    assert sum(rows.train.lengths[:-1]) == len(ids) + len(rows.train) - 2, "each window repeats one token"
    assert "".join(map(learned, rows.train[:-1])) == tiny_tokenizer().decode(ids[1:])
    assert (dict(rows.windowed), rows.truncated, dict(rows.lost)) == (
        {"rows": 1, "parts": len(rows.train) - 1},
        0,
        {},
    )
    assert [Path(origin).name for origin in rows.train.origins[:2]] == ["rows.jsonl:1#1", "rows.jsonl:1#2"]
    assert Path(rows.train.origins[-1]).name == "rows.jsonl:2"


@pytest.mark.parametrize("history", ["as-rendered", "as-asked"])
@pytest.mark.parametrize("system", [True, False])
def test_a_conversation_is_split_at_its_turns(tmp_path: Path, system: bool, history: str) -> None:
    row = {"messages": talk(7, system=system)}
    limit = len(whole(tmp_path, {"messages": talk(2, system=system)}).input_ids) + 3
    masking = {"name": "assistant", "history": history}
    rows = read(tmp_path, [row], batching={"max_length": limit, "too_long": "split"}, masking=masking)
    texts = [str(tiny_tokenizer().decode(part.input_ids)) for part in rows.train]
    assert max(rows.train.lengths) <= limit and len(texts) > 2
    answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
    said = [answer for part in rows.train for answer in learned(part).replace("<|im_end|>", "\n").split("\n") if answer]
    assert said == answers, "every answer is learned once, and nothing else"
    assert all(text.startswith("<|im_start|>" + ("system\nBe kind." if system else "user\nQ")) for text in texts)


def test_an_exchange_that_is_too_long_is_cut_into_windows(tmp_path: Path) -> None:
    row = {"messages": [*talk(1), *talk(1, 80, system=False, start=1), *talk(1, system=False, start=2)]}
    rows = read(tmp_path, [row], batching={"max_length": 64, "too_long": "split"})
    assert max(rows.train.lengths) <= 64 and len(rows.train) > 3
    everything = "".join(map(learned, rows.train)).replace("<|im_end|>", "")
    assert everything == "".join(turn["content"] for turn in row["messages"] if turn["role"] == "assistant")


def test_what_is_marked_or_asked_stays_unlearned_in_parts(tmp_path: Path) -> None:
    turns = talk(6)
    turns[4]["weight"] = 0
    limit = len(whole(tmp_path, {"messages": talk(2)}).input_ids)
    rows = read(tmp_path, [{"messages": turns}], batching={"max_length": limit, "too_long": "split"})
    said = "".join(map(learned, rows.train))
    assert "a1x" not in said and all(f"a{number}x0" in said for number in (0, 2, 3, 4, 5))
    split = {"prompt": turns[:-1], "completion": turns[-1:]}
    options = {"max_length": limit, "too_long": "split"}
    rows = read(tmp_path, [split], "prompt-completion", batching=options, masking="completion")
    assert len(rows.train) == 1 and learned(rows.train[0]).startswith("a5x0")
    assert str(tiny_tokenizer().decode(rows.train[0].input_ids)).startswith("<|im_start|>system\nBe kind.")


def test_the_end_is_kept(tmp_path: Path) -> None:
    row = {"messages": talk(6)}
    ids = whole(tmp_path, row).input_ids
    rows = read(tmp_path, [row], batching={"max_length": 30, "truncate": "keep_end"})
    (kept,) = rows.train
    assert kept.input_ids == ids[-30:] and kept.labels[0] == -100
    of_all = sum(label != -100 for label in whole(tmp_path, row).labels)
    assert rows.lost == {"tokens": len(ids) - 30, "learned tokens": of_all - rows.train.label_tokens}


def test_whole_turns_are_kept(tmp_path: Path) -> None:
    row = {"messages": talk(6)}
    three = whole(tmp_path, {"messages": talk(3)})
    ids = whole(tmp_path, row).input_ids
    rows = read(tmp_path, [row], batching={"max_length": len(three.input_ids) + 5, "truncate": "whole_turns"})
    assert list(rows.train) == [three] and rows.lost["tokens"] == len(ids) - len(three.input_ids)
    assert rows.truncated == 1 and Path(rows.train.origins[0]).name == "rows.jsonl:1"


def test_where_no_whole_turn_fits_the_row_is_dropped_and_its_tokens_are_counted(tmp_path: Path) -> None:
    row, short = {"messages": talk(1, 80)}, {"messages": talk(1)}
    ids = whole(tmp_path, row).input_ids
    for options, reason in (
        ({"truncate": "whole_turns"}, "nothing to learn in whole turns of 64 tokens"),
        ({"too_long": "drop"}, "longer than 64 tokens"),
    ):
        rows = read(tmp_path, [row, short], batching={"max_length": 64, **options})
        assert (dict(rows.dropped), dict(rows.dropped_tokens)) == ({reason: 1}, {reason: len(ids)})


def test_tokens_that_are_cut_are_counted(tmp_path: Path) -> None:
    row = whole(tmp_path, {"messages": talk(6)})
    rows = read(tmp_path, [{"messages": talk(6)}], batching={"max_length": 50})
    learned_of_it = sum(label != -100 for label in row.labels[50:])
    assert rows.lost == {"tokens": len(row.input_ids) - 50, "learned tokens": learned_of_it}


def test_options_that_cannot_go_together_are_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "a b", "label": "x"}]
    for option in ({"too_long": "split"}, {"truncate": "keep_end"}):
        with pytest.raises(RecipeError, match="is for rows whose tokens are learned"):
            read(tmp_path, rows, "labelled", batching={"max_length": 8, **option}, task="classification")
    with pytest.raises(RecipeError, match="overlap leaves no new token"):
        read(tmp_path, rows, "text", batching={"max_length": 8, "too_long": "split", "overlap": 8})
