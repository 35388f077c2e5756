"""The page of an audit in a browser: it fits a phone and a desk, in light and dark, and hostile rows stay text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fttool.cli import main

from ...browser import contrast, looked_at
from ...rows import write_rows

SCRIPT = "<script>parent.hacked = window.hacked = 1</script><img src=x onerror='parent.hacked = 1'>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of rows with some faults, one of them an attack."""
    folder = tmp_path_factory.mktemp("page")

    def chat(question: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    rows = [chat(f"What is number {n} of the list?", f"Number {n} is the {n * n}th of all.") for n in range(30)]
    rows += [rows[3], chat("Say more.", "and so it goes on, " * 20), chat("x" * 400, "mail me@example.com")]
    rows += [chat(f"{SCRIPT} \u202egnp.exe", f"{SCRIPT} me@example.com"), chat("Who?", "I'm sorry, but I cannot help.")]
    write_rows(folder / "rows.jsonl", rows)
    assert main(["audit", str(folder / "rows.jsonl"), "-q", "-o", str(folder / "audit.html")]) == 0
    return folder / "audit.html"


@pytest.mark.full
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
def test_the_page_fits_and_hostile_rows_stay_text(dark: bool, width: int, page: Path, tmp_path: Path) -> None:
    seen = looked_at(page, tmp_path, width=width, dark=dark)
    assert seen.width <= width and seen.beyond == [] and seen.console == []
    assert seen.foreign == 0 and not seen.hacked and seen.elements > 100
    assert contrast(seen) >= 7 and (seen.back == "rgb(255, 255, 255)") != dark
    assert SCRIPT in " ".join(seen.text.split()) and "\u202e" not in seen.text


@pytest.mark.full
def test_what_a_page_runs_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "hostile.html"
    page.write_text(f"<body style='color: #777; background: #fff'>{SCRIPT}", encoding="utf-8")
    seen = looked_at(page, tmp_path)
    assert seen.hacked and seen.foreign == 2 and 4 < contrast(seen) < 5
