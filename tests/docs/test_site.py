"""The docs build as a site: without a network, without a link that leads nowhere, with every page in the navigation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from .pages import site_links

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = "https://github.com/fttool/fttool"


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make site` does, into another folder; there is no way to a network."""
    (words,) = re.findall(r"^site:\n\t(mkdocs .+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    command = [sys.executable, "-m", *words.split(), "--site-dir", str(site)]
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return subprocess.run(command, cwd=root, env={**os.environ, **nowhere}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """What a page links to, what it loads, its anchors, and the text of its paragraphs."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.paragraphs: list[str] = []
        self._open = False
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("img", "script") and "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.loaded.append(given["href"])
        elif tag == "p":
            self._open = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(found) == len(list((ROOT / "docs").rglob("*.md"))), "a page of the site for each of the docs"
    return found


@pytest.mark.full
def test_every_link_of_the_site_leads_somewhere(pages: dict[Path, Page]) -> None:
    wrong: list[str] = []
    for file, page in pages.items():
        for link in page.links:
            path, _, anchor = link.partition("#")
            if path.startswith(f"{REPOSITORY}/"):
                inside = re.sub(r"^(blob|tree)/HEAD/", "", path.removeprefix(f"{REPOSITORY}/"))
                kind = Path.is_dir if "/tree/" in path else Path.is_file
                wrong += [] if kind(ROOT / inside) else [f"{file.name}: {link}"]
            elif not re.match(r"[a-z]+:", path):
                target = (file.parent / path).resolve() if path else file
                target = target / "index.html" if target.is_dir() else target
                there = target in pages and (not anchor or anchor in pages[target].anchors)
                wrong += [] if there or (path and target.is_file() and not anchor) else [f"{file.name}: {link}"]
    assert wrong == []


@pytest.mark.full
def test_a_reader_of_the_site_fetches_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    loaded = {(file, what) for file, page in pages.items() for what in page.loaded}
    assert len(loaded) > len(pages)
    assert {what for _, what in loaded if re.match(r"([a-z]+:)?//", what)} == set()
    assert {what for file, what in loaded if not (file.parent / what.partition("?")[0]).is_file()} == set()


@pytest.mark.full
def test_lists_and_tables_are_such_on_the_site_too(pages: dict[Path, Page]) -> None:
    """Markdown on a forge takes a list without a blank line in front of it, and Python's does not."""
    swallowed = re.compile(r"^\s*(- |\* |\d+\. |\|)|\\\||```", re.MULTILINE)
    texts = {(file.name, text) for file, page in pages.items() for text in page.paragraphs}
    assert {(name, text) for name, text in texts if swallowed.search(text)} == set()


@pytest.mark.full
def test_what_is_wrong_ends_the_build(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "docs" / "orphan.md").write_text(
        "# Nobody leads here\n\n[a](nowhere.md) [b](../recipes/nowhere.toml)\n"
    )
    with (tmp_path / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write("\n[c](first-run.md#no-such-heading)\n")
    (tmp_path / "docs" / "wsd.md").unlink()
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    for fault in ("orphan.md", "nowhere.md", "nowhere.toml", "#no-such-heading", "wsd.md"):
        assert re.search(rf"WARNING .*{re.escape(fault)}", done.stderr), (fault, done.stderr)


def test_links_out_of_the_docs_lead_to_the_repository() -> None:
    links = {
        "../core/fttool/api.py#L3": "R/blob/HEAD/core/fttool/api.py#L3",
        "../recipes": "R/tree/HEAD/recipes",
        "screens.py": "R/blob/HEAD/docs/screens.py",
        **{kept: kept for kept in ("rows.md#tools", "https://x.org", "../no.md", "#here", "screens/run.svg")},
    }
    page, made = (" ".join(f"[a]({target})" for target in some) for some in (links, links.values()))
    assert site_links.outward(page, "x.md", "R") == made
    deeper = "[a](../../recipes/wsd.toml) [b](../wsd.md) [c](../../../outside)"
    assert (
        site_links.outward(deeper, "studies/x.md", "R")
        == "[a](R/blob/HEAD/recipes/wsd.toml) [b](../wsd.md) [c](../../../outside)"
    )


def test_a_folder_in_the_navigation_stands_for_its_pages() -> None:
    ((_, made),) = site_links.expanded([{"Decisions": "adr/"}])[0].items()
    assert made == sorted(f"adr/{page.name}" for page in (ROOT / "docs" / "adr").glob("*.md")) and len(made) >= 13
    assert site_links.expanded(["a.md", {"B": ["c.md"]}]) == ["a.md", {"B": ["c.md"]}]


def test_the_site_and_the_project_speak_of_one_repository() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["repo_url"] == PROJECT["project"]["urls"]["Source"] == REPOSITORY
    assert settings["strict"] and settings["theme"]["font"] is False
