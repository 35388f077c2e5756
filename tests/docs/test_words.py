"""Messages and help are in plain English: what reads like a literal translation does not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(file for folder in ("core", "plugins") for file in (ROOT / folder).rglob("*.py"))
STIFF = {
    r"(?<![Tt]here )\b(is|are|was|were) no (?!longer\b|larger\b|better\b|worse\b|more\b)\w": "is not a …",
    r"\bhas not(?=[.,;:)]|$)": "does not have",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bstands? (twice|in|under|where|at)\b": "is in, occurs, is written",
    r"\bsay \w+(\.\w+)* = ": "set … =",
    r"\b(met|meets) (in|again|before|twice|its rows)\b": "seen",
    r"\bdrawn (at random|anew)\b": "randomly initialised, sampled",
    r"\bno whole\b|\bheld whole\b|\blearned whole\b": "complete, gathered, in full",
    r"\bgets? no turn\b": "is never trained",
    r"\btakes? no notice\b": "ignores",
    r"\bwithout a word\b|\bsaid nothing\b": "without output",
    r"\basks? otherwise\b|\botherwise than\b": "differently",
}
"""What a message must not say, as a pattern → what to say instead."""


def spoken(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string of a module that people read: all but docstrings, and names without a blank."""
    tree = ast.parse(text)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            yield node.lineno, "".join(map(str, parts))


def stiff(text: str) -> list[str]:
    """What is stiff in a module's messages, each with its line and better words."""
    return [
        f"line {line}: {match[0]!r} in {message!r}; better: {better}"
        for line, message in spoken(text)
        for pattern, better in STIFF.items()
        if " " in message and (match := re.search(pattern, message))
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_messages_are_in_plain_english(file: Path) -> None:
    assert stiff(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "message",
    [
        "'{path}' is no run directory",
        "tokens that are no ids",
        "which the model has not",
        "mend it; or delete the row",
        "a key stands twice in an object",
        "say optimizer = adamw",
        "rows that are met again",
        "a head that was drawn at random",
        "each layer is held whole",
    ],
)
def test_what_is_stiff_is_found_in_any_string(message: str) -> None:
    assert stiff(f"path = 1\nprint(f{message!r})") and stiff(f"print({message!r}, end='')")
    assert not stiff(f'def f():\n    """{message}"""')


@pytest.mark.parametrize(
    "message", ["there is no room left", "it is no longer there", "no file is read", "{a} is none"]
)
def test_plain_words_are_left_alone(message: str) -> None:
    assert stiff(f"print({message!r})") == []
