"""The pictures of a run's screens show what fttool prints today."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fttool.cli import main

from .pages import screens

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "screens"
WIDE = 12.2
"""Of a character, in the pictures' unit."""


def shown(name: str) -> list[str]:
    """The lines of a picture, without the prompt."""
    lines: dict[float, str] = {}
    for text in ElementTree.parse(PICTURES / f"{name}.svg").iter("{http://www.w3.org/2000/svg}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        lines[y] = lines.get(y, "").ljust(round(x / WIDE)) + (text.text or "")
    kept = [lines[y].replace("\xa0", " ").rstrip() for y in sorted(lines)]
    assert kept[0].startswith("$ fttool")
    return [line for line in kept[1:] if line]


def words(lines: list[str]) -> Counter[str]:
    """Their words, without commas and the brackets that stand for colour; what a terminal has cut at its edge is put
    together, and so is a line that ends there with a comma.
    """
    text = "".join(line if len(line) == screens.COLUMNS else f"{line} " for line in lines)
    return Counter(re.sub(r",", " ", re.sub(r"[\[\]]", "", text)).split())


def test_each_picture_is_on_the_page_and_small() -> None:
    page = (DOCS / "screens.md").read_text(encoding="utf-8")
    named = re.findall(r"!\[[^]]+\]\(screens/(\w+)\.svg\)", page)
    assert sorted(named) == sorted(path.stem for path in PICTURES.glob("*")) == sorted([*screens.SCREENS, "running"])
    assert all(path.stat().st_size < 60_000 for path in PICTURES.glob("*"))
    assert not any(re.search(r"@import|@font-face|url\((?!#)|href", path.read_text()) for path in PICTURES.glob("*"))


@pytest.mark.full
@pytest.mark.parametrize("name", ["first", "validate", "wrong", "advise", "preview"])
def test_a_picture_has_what_is_printed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(screens.PREPARED.split()[1:]) == 0
    capsys.readouterr()
    main(screens.SCREENS[name].split()[1:])
    said = capsys.readouterr()
    assert words(shown(name)) == words([said.out, said.err]), f"pip install pyte && python docs/screens.py {name}"


def test_the_screens_of_a_run_have_what_a_closing_screen_has() -> None:
    """Their numbers differ from machine to machine; that they are those of the quickstart is seen by the words."""
    run = shown("run")
    for begin in (
        "quickstart: finished after 111 of 111 updates",
        "  loss ",
        "  token-accuracy ",
        "  model ",
        "  try ",
    ):
        assert any(line.startswith(begin) for line in run), begin
    assert any(re.search(r"\d+/111", line) for line in shown("running"))
    assert {"quickstart", "low", "optimizer.lr"} <= words(shown("compare")).keys()
