"""What the docs quote of fttool is there: messages in its sources, keys in the recipe's schema."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .keys import SCHEMA, wrong
from .pages import reference

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
QUOTED = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
NOT_OF_RECIPES = (ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "adr" / "0011-a-run-is-built-in-stages.md")
GUIDES = [ROOT / "README.md", *(page for page in ROOT.glob("docs/**/*.md") if reference.MADE not in page.read_text())]
NOT_KEYS = re.compile(r"\.(json|jsonl|toml|safetensors|md|py|base_model)$|^sharding\.ranks|[()*/]")
"""What begins like a key of a recipe and is a file, a piece of code or a key of `summary.json`."""


@cache
def sentences() -> list[str]:
    """Every text in the sources of core and plugins; what is filled in at run time is `…`."""
    files = [*ROOT.glob("core/**/*.py"), *ROOT.glob("plugins/**/*.py")]
    return [text for file in files for text in _texts(ast.parse(file.read_text(encoding="utf-8")))]


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def said(quote: str) -> bool:
    """Whether a text of the sources has the quote's fixed words, in their order."""
    pattern = re.compile(".*".join(map(re.escape, quote.split("…"))), re.DOTALL)
    return any(pattern.search(text) for text in sentences())


def test_there_are_messages() -> None:
    assert len(QUOTED) >= 40 and len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("quote", QUOTED)
def test_a_message_is_in_the_sources(quote: str) -> None:
    assert said(quote)
    assert re.search(r"\w+ \w+", quote) or "was" in quote, "a quote of a word or two is found anywhere"


def test_what_is_not_said_is_found() -> None:
    assert not said("unknown keys '…'") and not said("the training loss of … is fine")
    assert said("unknown key '…'")


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if page not in NOT_OF_RECIPES], ids=lambda page: str(page.relative_to(ROOT))
)
def test_keys_in_sentences_are_those_of_a_recipe(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    quoted = {one for one in re.findall(r"`((?:[a-z_]+\.)+[a-z_]+(?: = [^`…]+)?)`", text) if not NOT_KEYS.search(one)}
    keys = {one for one in quoted if one.partition(".")[0] in SCHEMA["properties"]}
    assert {one for one in keys if wrong(one)} == set()
