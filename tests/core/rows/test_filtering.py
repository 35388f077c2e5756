"""What filters know of the rows that they judge: lengths in tokens, which of them are measured on, and a bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from tomli_w import dumps

from fttool.api import Example, Filter, FilterContext, Kept, Reason, RowFilter, Verdict, hookimpl
from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.rows.rows import Rows
from fttool.testing import plugins, tiny_tokenizer

from ...rows import write_rows

KNOWN: dict[str, Any] = {}


class Spy(Filter):
    """Notes what it is told, and keeps all."""

    name: Literal["acme.spy"] = "acme.spy"

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a filter that looks around."""
        KNOWN["context"] = ctx

        def look(examples: Sequence[Example]) -> list[str | None]:
            KNOWN["measured"] = {one.origin for one in ctx.track(examples, "looking") if ctx.measured(one)}
            KNOWN["lengths"] = [ctx.tokens(one) for one in examples]
            return [None] * len(examples)

        return look


class Shouting(Filter):
    """Keeps every row: in capitals, or flagged where its number is even."""

    name: Literal["acme.shouting"] = "acme.shouting"

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a filter that changes rows."""

        def shout(examples: Sequence[Example]) -> list[Verdict]:
            return [
                Kept("flagged") if int(one.origin.rsplit(":", 1)[1]) % 2 == 0 else Kept("shouted", louder(one))
                for one in examples
            ]

        return shout


def louder(example: Example) -> Example:
    turns = tuple({**turn, "content": turn["content"].upper()} for turn in example.messages)
    return replace(example, messages=turns)


def write(path: Path, numbers: Sequence[int]) -> str:
    turns = [
        [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": "yes " * n}] for n in numbers
    ]
    write_rows(path, ({"messages": one} for one in turns))
    return path.name


def rows_of(folder: Path, data: dict[str, Any], track: Any = None, filters: Sequence[str] = ("acme.spy",)) -> Rows:
    recipe = {"recipe": 1, "model": {"source": "builtin:tiny-chat"}, "data": data, "filters": list(filters)}
    (folder / "recipe.toml").write_text(dumps({**recipe, "batching": {"max_length": 4096}}))
    hook = hookimpl(lambda: [Spy, Shouting, Masking, Dropping, Shared], specname="fttool_strategies")
    acme = plugins(acme=SimpleNamespace(fttool_strategies=hook))
    more = {} if track is None else {"track": track}
    return prepare(load(folder / "recipe.toml", [], acme), tiny_tokenizer(), **more)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_filter_knows_which_rows_are_measured_on(tmp_path: Path, share: float) -> None:
    """As they are afterwards: dropped as those of an evaluation or retention file, or set aside."""
    data = {
        "train": [{"path": write(tmp_path / "train.jsonl", range(1, 41))}],
        "eval": [{"path": write(tmp_path / "eval.jsonl", [3, 5, 99])}],
        "retention": [{"path": write(tmp_path / "kept.jsonl", [7, 98])}],
        "eval_share": share,
    }
    rows = rows_of(tmp_path, data)
    learned = set(rows.train.origins)
    every = {f"{tmp_path / 'train.jsonl'}:{line}" for line in range(1, 41)}
    assert KNOWN["measured"] == every - learned
    assert {f"{tmp_path / 'train.jsonl'}:{line}" for line in (3, 5, 7)} <= KNOWN["measured"]
    assert (len(KNOWN["measured"]) > 3) == (share > 0)
    origins = {one.origin for one in KNOWN["context"].measured_rows}
    assert origins == {
        f"{tmp_path / name}:{line}"
        for name, lines in (("eval.jsonl", 3), ("kept.jsonl", 2))
        for line in range(1, lines + 1)
    }


def test_lengths_are_those_of_the_rows_in_tokens(tmp_path: Path) -> None:
    data = {"train": [{"path": write(tmp_path / "train.jsonl", [1, 8, 30])}]}
    shown: list[str] = []

    def track(items: Any, what: str) -> Any:
        shown.append(what)
        return items

    rows = rows_of(tmp_path, data, track)
    assert KNOWN["lengths"] == list(rows.train.lengths) and shown == ["looking"]
    assert KNOWN["context"].folder == tmp_path and KNOWN["context"].seed == 0
    assert KNOWN["context"].tokenizer.chat_template


def test_a_filter_has_a_folder_of_its_own_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows_of(tmp_path, {"train": [{"path": write(tmp_path / "rows.jsonl", range(1, 5))}]})
    assert not (tmp_path / "cache").exists()  # nobody has asked for it
    folder = KNOWN["context"].cache()
    assert folder.is_dir() and folder == tmp_path / "cache" / "fttool" / "filters" / "acme.spy"


def test_a_user_without_a_home_has_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    rows_of(tmp_path, {"train": [{"path": write(tmp_path / "rows.jsonl", range(1, 5))}]})
    assert KNOWN["context"].cache().is_dir()


def test_changed_rows_are_learned_and_counted_as_changed(tmp_path: Path) -> None:
    """Those that are measured on elsewhere stay as they are, and so are still known and kept from being learned."""
    data = {
        "train": [{"path": write(tmp_path / "train.jsonl", range(1, 10))}],
        "eval": [{"path": write(tmp_path / "eval.jsonl", [3, 4])}],
        "retention": [{"path": write(tmp_path / "kept.jsonl", [7])}],
    }
    rows = rows_of(tmp_path, data, filters=["acme.shouting", "acme.spy"])
    text = tiny_tokenizer().decode(list(rows.train.tokens))
    assert text.count("YES") == 1 + 5 + 9 and text.count("yes") == 2 + 6 + 8
    assert rows.changed == {"shouted": 3} and rows.flagged == {"flagged": 4}
    assert rows.dropped == {"also in the evaluation rows": 2, "also in the retention rows": 1}


class Masking(Filter):
    """Changes the text of every row, so that its content is another one."""

    name: Literal["acme.masking"] = "acme.masking"

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a filter that changes rows."""
        return lambda examples: [Kept("masked", louder(one)) for one in examples]


class Dropping(Filter):
    """Drops what is set aside."""

    name: Literal["acme.dropping"] = "acme.dropping"

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a filter that drops rows."""
        return lambda examples: ["aside" if ctx.measured(one) else None for one in examples]


class Shared(Filter):
    """Says of each row its line, and in which process it was looked at."""

    name: Literal["acme.shared"] = "acme.shared"

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield a filter that looks at each row by itself."""

        def look(one: Example) -> Verdict:
            KNOWN["here"] = KNOWN.get("here", 0) + 1
            return Reason(one.origin.rsplit(":", 1)[1], severity=float(os.getpid() != KNOWN["pid"]))

        def decide(examples: Sequence[Example]) -> list[Verdict]:
            KNOWN["verdicts"] = list(ctx.each(look, examples, "looking"))
            return [None] * len(examples)

        return decide


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_judged_one_by_one_by_several_processes(tmp_path: Path, workers: int) -> None:
    """In order, shown on a bar, and verdicts come back with all that they say."""
    KNOWN.update(pid=os.getpid(), here=0)
    shown: list[tuple[int, str]] = []

    def track(items: Any, what: str) -> Any:
        shown.append((len(items), what))
        return items

    data = {"train": [{"path": write(tmp_path / "train.jsonl", range(1, 31))}], "workers": workers}
    rows_of(tmp_path, data, track, filters=["acme.shared"])
    assert KNOWN["verdicts"] == [str(line) for line in range(1, 31)] and shown == [(30, "looking")]
    elsewhere = workers == 2 and sys.platform not in ("win32", "darwin")
    assert {one.severity for one in KNOWN["verdicts"]} == {float(elsewhere)} and KNOWN["here"] == 30 * (not elsewhere)


def test_a_filter_that_changes_rows_moves_none_to_the_other_side(tmp_path: Path) -> None:
    """And the filters behind it are told the same rows as those before it."""
    data = {"train": [{"path": write(tmp_path / "train.jsonl", range(1, 61))}], "eval_share": 0.3}
    plain = rows_of(tmp_path, data)
    aside = set(plain.eval.origins)
    assert aside == KNOWN["measured"] and 5 < len(aside) < 40
    masked = rows_of(tmp_path, data, filters=["acme.masking", "acme.spy"])
    assert set(masked.eval.origins) == aside == KNOWN["measured"]
    assert masked.changed == {"masked": 60}


def test_where_filters_drop_all_that_is_set_aside_other_rows_are(tmp_path: Path) -> None:
    data = {"train": [{"path": write(tmp_path / "train.jsonl", range(1, 21))}], "eval_share": 0.1}
    rows = rows_of(tmp_path, data, filters=["acme.dropping"])
    assert rows.dropped["aside"] > 0 and len(rows.eval) == 1
    assert len(rows.train) + len(rows.eval) + rows.dropped["aside"] == 20
