"""Lines that break between words, and what stays whole."""

from __future__ import annotations

import io
import random

import pytest

from fttool.wrapping import columns, fold, fold_page


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_nothing_is_too_long(seed: int) -> None:
    draw = random.Random(seed)
    words = ["x" * draw.randint(1, 14) for _ in range(draw.randint(1, 60))]
    line = " " * draw.randint(0, 8) + " ".join(words)
    folded = list(fold([line], 40))
    assert " ".join(folded).split() == words
    assert all(len(part) <= 40 for part in folded)
    begun = len(line) - len(line.lstrip())
    assert all(part.startswith(" " * (begun + 2)) for part in folded[1:])


def test_a_word_is_never_broken_and_a_line_that_fits_stays_as_it_is() -> None:
    path = "/a/very/long/path/without-a-single-space/" + "x" * 60
    assert list(fold([f"see {path} now", "a  b", ""], 40)) == ["see", f"  {path}", "  now", "a  b", ""]
    assert list(fold(["x " * 90], None)) == ["x " * 90]


def test_a_page_keeps_commands_and_moves_their_remarks() -> None:
    command = "  fttool run a-long-recipe.toml      what it does"
    page = f"A sentence that is\nlonger than forty columns.\n\nexamples:\n{command}\n"
    assert list(fold_page(page, 40)) == [
        "A sentence that is",
        "longer than forty columns.",
        "",
        "examples:",
        "  fttool run a-long-recipe.toml",
        "      what it does",
    ]
    assert list(fold_page("one two three four\nfive six", 12)) == ["one two", "three four", "five six"]
    whole = "  fttool run my.toml --set a.b=c --set d.e=f"
    assert list(fold_page(whole, 20)) == [whole]


def test_a_pipe_has_no_columns_and_a_terminal_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    assert columns(stream) is None
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert columns(stream) == 80  # no terminal is asked for it here
    monkeypatch.setenv("COLUMNS", "60")
    assert columns(stream) == columns(io.StringIO()) == 60
    monkeypatch.setenv("COLUMNS", "3")
    assert columns(stream) == 40
    stream.close()
