"""Every piece of a recipe in the guides is one: with what it leaves out filled in, it is valid, and so are its rows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fttool import load
from fttool.recipe.salvaging import Rest
from fttool.rows.first_look import first_rows, refuse_nothing_read

from .pages import reference

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(page for page in ROOT.glob("docs/**/*.md") if reference.MADE not in page.read_text())]
OWN_DATA = ROOT / "docs" / "data.md"
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)```", re.MULTILINE | re.DOTALL)
"""A file of rows as a page shows it, under its name."""


def fragments(page: Path) -> Iterator[str]:
    """The pieces of a recipe on a page; entry points of a package are none."""
    for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if "entry-points" not in text:
            yield text


def completed(text: str) -> dict[str, Any]:
    """A fragment with a model and training rows, where it has none of its own."""
    given = tomllib.loads(text)
    data = {"train": [{"path": "rows.jsonl"}], **given.pop("data", {})}
    return {"recipe": 1, "model": {"source": "builtin:tiny-chat", **given.pop("model", {})}, "data": data, **given}


FRAGMENTS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(fragments(page), start=1)
]


def test_the_guides_have_fragments() -> None:
    assert len(FRAGMENTS) >= 20


@pytest.mark.parametrize("text", FRAGMENTS)
def test_a_fragment_is_valid(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load(completed(text))


def test_rows_that_are_shown_are_read_as_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = dict(FILE.findall(OWN_DATA.read_text(encoding="utf-8")))
    for name, rows in files.items():
        Path(name).write_text(rows, encoding="utf-8")
    shown = set[str]()
    for text in fragments(OWN_DATA):
        recipe = completed(text)
        if not {table["path"] for table in recipe["data"]["train"]} <= files.keys():
            continue
        recipe["data"] = {"train": recipe["data"]["train"]}  # the other tables' rows are not shown
        recipe.pop("mixing", None)
        read = list(first_rows(Rest(load(recipe)), 100))
        refuse_nothing_read([one for one, _ in read])
        for one, wrong in read:
            assert not wrong and len(one.examples) == one.bad.rows, one.table.path
            assert one.notices() == []
            shown.add(str(one.table.path))
    assert shown == files.keys() and len(shown) >= 8
