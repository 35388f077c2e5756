"""`fttool audit` finds what was planted, counts what is there, and shows strangers' rows without obeying them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pytest import MonkeyPatch

from fttool.api import Filter, FilterContext, Reason, RowFilter, hookimpl
from fttool.cli import main
from fttool.plugins import Plugins
from fttool.testing import tiny_tokenizer
from fttool_plugins.verbs.audit import counting

from ...rows import write_rows

WORDS = [
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "grove",
    "heath",
    "islet",
    "jetty",
    "knoll",
    "larch",
    "marsh",
    "north",
    "orchard",
    "pine",
    "quay",
    "reef",
]
LOOP = "and then it goes on " * 12


def chat(question: str, answer: str, *, system: str = "") -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def some(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of random words: none is like another."""
    rng = random.Random(seed)
    return [chat(" ".join(rng.sample(WORDS, 6)) + "?", " ".join(rng.sample(WORDS, 9))) for _ in range(count)]


def audited(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["audit", *map(str, words), "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def suspects(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["filter"]: one for one in report["suspects"]}


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "rows.jsonl"


def test_what_was_planted_is_found_where_it_stands(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = some(40)
    planted = [chat("Say more.", LOOP), chat("Write to me.", "My address is jane.doe@example.com, come by."), good[3]]
    write_rows(rows, [*good, *planted])
    report = audited(capsys, "rows.jsonl")
    named = ("repetition", "personal-data", "exact-duplicates", "near-duplicates")
    found = {name: suspects(report)[name] for name in named}
    assert {name: (one["rows"], one["worst"][0]["row"]) for name, one in found.items()} == {
        "repetition": (1, "rows.jsonl:41"),
        "personal-data": (1, "rows.jsonl:42"),
        "exact-duplicates": (1, "rows.jsonl:43"),
        "near-duplicates": (1, "rows.jsonl:43"),
    }
    twin = suspects(report)["near-duplicates"]["worst"][0]
    assert twin["like"] == "rows.jsonl:4" and "exact-duplicates" in twin["also"]
    assert report["clean"] <= 40
    assert report["repeated"]["rows"] == 1
    assert report["repeated"]["examples"][0]["row"] == "rows.jsonl:4"
    assert [step["filter"] for step in report["steps"]] and all(step["gain"] is None for step in report["steps"])
    assert "not measured" in report["order"]


def test_overlap_with_what_is_measured_is_counted(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = some(12)
    write_rows(rows, good)
    asked = good[7]["messages"][0]["content"]
    write_rows(rows.with_name("held.jsonl"), [good[2], chat(asked.upper(), "another answer")])
    report = audited(capsys, "rows.jsonl", "--eval", "held.jsonl")
    overlap = report["overlap"]
    assert (overlap["measured"], overlap["rows"], overlap["prompts"]) == (2, 1, 1)
    assert [(one["row"], one["like"]) for one in overlap["examples"]] == [
        ("rows.jsonl:3", "held.jsonl:1"),
        ("rows.jsonl:8", "held.jsonl:2"),
    ]


def test_tokens_are_those_that_a_plain_loop_counts(
    rows: Path, capsys: pytest.CaptureFixture[str], fttool_tiny_model: Path
) -> None:
    """Independent of masking: lengths by the tokenizer's own template, what is learned by the words of the answers."""
    talks = [*some(9), chat("Long?", "word " * 60, system="Be long.")]
    write_rows(rows, talks)
    model, longest = str(fttool_tiny_model), 40
    report = audited(capsys, "rows.jsonl", "--model", model, "--set", f"batching.max_length={longest}")
    tokenizer = tiny_tokenizer()
    lengths = [len(tokenizer.apply_chat_template(row["messages"], return_dict=False)) for row in talks]
    tokens = report["tokens"]
    assert tokens["total"] == sum(lengths)
    assert tokens["quantiles"] == {
        "shortest": min(lengths),
        "median": sorted(lengths)[4],
        "90%": sorted(lengths)[8],
        "99%": max(lengths),
        "longest": max(lengths),
    }
    assert tokens["long_rows"] == sum(length > longest for length in lengths)
    assert tokens["cut_tokens"] == sum(max(0, length - longest) for length in lengths)
    assert sum(tokens["lengths"]) == len(talks)
    assert 0 < tokens["learned"] < tokens["total"]
    assert report["turns"] == {
        "rows": 10,
        "mean": 2.1,
        "most": 3,
        "roles": {"user": 10, "assistant": 10, "system": 1},
        "system": 1,
    }


def test_more_rows_than_are_made_into_tokens_are_sampled_and_it_says_so(
    rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_ENCODED", 5)
    write_rows(rows, some(12))
    assert main(["audit", "rows.jsonl", "-q"]) == 0
    assert "in 5 rows, a sample" in capsys.readouterr().out
    report = audited(capsys, "rows.jsonl")
    assert (report["tokens"]["rows"], report["tokens"]["of"]) == (5, 12)


def test_classes_are_counted_and_alike_ones_are_named(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [row["messages"][1]["content"] for row in some(60)]
    labels = ["spam"] * 31 + ["ham"] * 26 + ["spma"] * 3
    table = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    file = rows.with_suffix(".csv")
    file.write_text("\n".join(["text,label", *table]) + "\n")
    report = audited(capsys, "rows.csv")
    assert report["task"] == "classification"
    assert report["classes"] == {"spam": 31, "ham": 26, "spma": 3}
    said = " ".join(finding["message"] for finding in report["findings"])
    assert "'spam' (31) and 'spma' (3)" in said and "class 'spma' has 3 rows" in said
    assert report["turns"] is None


def test_bad_rows_are_counted_and_the_others_audited(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = some(10)
    write_rows(rows, [*good[:4], {"messages": [{"role": "user"}]}, *good[4:]])
    (dataset,) = audited(capsys, "rows.jsonl")["datasets"]
    assert (dataset["rows"], dataset["bad"], dataset["bad_rows"][0]["row"]) == (10, 1, "rows.jsonl:5")


def test_a_recipe_keeps_its_filters_options(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(rows, some(12))
    rows.with_name("my.toml").write_text(
        'recipe = 1\nmodel = {source = "builtin:tiny-chat"}\nfilters = [{name = "words", min = 100}]\n'
        '[[data.train]]\npath = "rows.jsonl"\n'
    )
    found = suspects(audited(capsys, "my.toml"))
    assert found["words"]["reasons"] == {"fewer than 100 words": 12}
    assert found["exact-duplicates"]["rows"] == 0


def test_hostile_rows_do_not_reach_the_terminal(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "\x1b]0;owned\x07\u202eevil " + "x@example.com"
    write_rows(rows, [*some(10), chat("Who?", nasty)])
    assert main(["audit", "rows.jsonl", "-q"]) == 0
    out = capsys.readouterr().out
    assert "\\u202eevil" in out and not set(out) & {"\x1b", "\u202e", "\x07"}


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text outside of the style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data if self.elements and self.elements[-1][0] != "style" else ""


def test_hostile_rows_are_text_on_the_page(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "<script>fetch('https://evil.example')</script><img src=x onerror=alert(1)>"
    nasty = f"{script} \u202egnp.exe \x00 mail me@example.com"
    write_rows(rows, [*some(10), chat(script, nasty), chat("</style></div>", f'" onload="x {LOOP}')])
    assert main(["audit", "rows.jsonl", "-q", "-o", "audit.html"]) == 0
    raw = rows.with_name("audit.html").read_bytes().decode("utf-8")
    page = Parsed(raw)
    names = {name for name, _ in page.elements}
    assert not names & {"script", "img", "iframe", "link", "object", "base", "form"}
    attributes = {key for _, given in page.elements for key in given}
    assert not {key for key in attributes if key.startswith("on")} and not attributes & {"src", "href", "action"}
    policy = [given["content"] for name, given in page.elements if name == "meta" and "http-equiv" in given]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert script in page.text and "\\u202egnp.exe" in page.text and "</style></div>" in page.text
    assert not set(raw) & {"\u202e", "\x00"}
    opened = [name for name, _ in page.elements if name not in ("meta", "rect", "line")]
    assert all(raw.count(f"</{name}>") == opened.count(name) for name in set(opened)), "an element is left open"


def test_the_page_has_what_the_object_has(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row that is named, with its reason, and every number's explanation."""
    good = some(30)
    write_rows(rows, [*good, *good[:12], *(chat("Say more.", f"{number} {LOOP}") for number in range(3))])
    report = audited(capsys, "rows.jsonl", "-o", "audit.html")
    text = Parsed(rows.with_name("audit.html").read_text()).text
    for one in report["suspects"]:
        assert one["rows"] == 0 or f"{one['filter']}: {one['rows']} row" in text
        for row in one["worst"]:
            assert row["row"] in text and row["reason"] in text and row["excerpt"] in text
    assert len(suspects(report)["exact-duplicates"]["worst"]) == 10
    for one in report["indicators"]:
        assert one["says"] in text and one["computed"] in text and one["blind"] in text
    for one in report["findings"]:
        assert one["message"] in text and one["source"] in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["gone.jsonl"], 2, "there is no 'gone.jsonl'"),
        (["my.toml", "--eval", "rows.jsonl"], 2, "a recipe has its own"),
        (["odd.jsonl"], 4, "no installed format reads"),
        (["rows.jsonl", "--model", "gone"], 2, "there is no 'gone' here"),
        (["broken.jsonl"], 4, "broken.jsonl"),
        (["rows.jsonl", "-o", "gone/audit.html"], 2, "the folder 'gone' does not exist"),
    ],
)
def test_what_cannot_be_audited_is_said(
    words: Sequence[str], code: int, said: str, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(rows, some(3))
    write_rows(rows.with_name("odd.jsonl"), [{"a": 1}, {"b": 2}])
    broken = write_rows(rows.with_name("broken.jsonl"), some(30))
    broken.write_text(broken.read_text() + "{not json\n")
    rows.with_name("my.toml").write_text(
        'recipe = 1\nmodel = {source = "builtin:tiny-chat"}\n[[data.train]]\npath = "rows.jsonl"\n'
    )
    assert main(["audit", *words]) == code
    assert said in capsys.readouterr().err


class Short(Filter):
    """Rows whose answer is short."""

    name: Literal["acme.short"] = "acme.short"

    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: [Reason("short", severity=-len(one.answer())) for one in examples]


class Weighs(Filter):
    """It asks a model."""

    name: Literal["acme.weighs"] = "acme.weighs"

    @property
    def slow(self) -> bool:
        return True

    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: ["too light" for _ in examples]


class Fails(Filter):
    """It raises."""

    name: Literal["acme.fails"] = "acme.fails"

    def build(self, ctx: FilterContext) -> RowFilter:
        raise KeyError("a bug")


class Lacks(Filter):
    """It needs a package."""

    name: Literal["acme.lacks"] = "acme.lacks"

    def build(self, ctx: FilterContext) -> RowFilter:
        import no_such_package  # type: ignore[import-not-found]

        return no_such_package.judge


class Needs(Filter):
    """It has an option that must be given."""

    name: Literal["acme.needs"] = "acme.needs"
    least: int

    def build(self, ctx: FilterContext) -> RowFilter:
        raise AssertionError


def test_filters_of_others_are_asked_and_what_is_not_asked_is_said(
    rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: MonkeyPatch
) -> None:
    acme = SimpleNamespace(fttool_strategies=hookimpl(lambda: [Short, Weighs, Fails, Needs, Lacks]))
    known = Plugins.of(acme=acme)
    monkeypatch.setattr(Plugins, "discover", classmethod(lambda cls: known))
    talks = some(4)
    write_rows(rows, talks)
    report = audited(capsys, "rows.jsonl")
    lengths = [len(talk["messages"][1]["content"]) for talk in talks]
    worst = suspects(report)["acme.short"]["worst"]
    assert [one["row"] for one in worst] == [
        f"rows.jsonl:{place + 1}" for place in sorted(range(4), key=lambda place: lengths[place])
    ]
    not_run = {name for name in report["not_run"] if name.startswith("acme.")}
    assert not_run == {"acme.weighs", "acme.fails", "acme.needs", "acme.lacks"}
    assert "--slow" in report["not_run"]["acme.weighs"]
    assert "KeyError" in report["not_run"]["acme.fails"]
    assert "least" in report["not_run"]["acme.needs"]
    assert report["not_run"]["acme.lacks"] == "needs the package no_such_package, which is not installed"
    assert suspects(audited(capsys, "rows.jsonl", "--slow"))["acme.weighs"]["reasons"] == {"too light": 4}


def test_spellings_of_one_class_and_classes_of_one_side_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(5)

    def labelled(*counts: tuple[str, int]) -> list[dict[str, Any]]:
        names = [name for name, count in counts for _ in range(count)]
        return [{"text": " ".join(rng.sample(WORDS, 8)), "label": name} for name in names]

    write_rows(tmp_path / "rows.jsonl", labelled(("spam", 30), ("ham", 30), ("SPAM", 2), ("sapm", 1), ("rare", 12)))
    write_rows(tmp_path / "kept.jsonl", labelled(("spam", 9), ("ham", 9), ("news", 3)))
    report = audited(capsys, tmp_path / "rows.jsonl", "--eval", tmp_path / "kept.jsonl")
    (names,) = [one for one in report["suspects"] if one["filter"] == "class-names"]
    assert names["reasons"] == {"its class 'SPAM' looks like 'spam'": 2, "its class 'sapm' looks like 'spam'": 1}
    said = [finding["message"] for finding in report["findings"]]
    learned, measured = (
        next(one for one in said if f"classes that are {what}" in one) for what in ("learned", "measured")
    )
    assert learned.endswith(": rare (12), SPAM (2), sapm (1)") and measured.endswith(": news (3)")
