"""Write the rows of `recipes/names.toml`: sentences from a few patterns, with people, places and companies in them.

    python recipes/entities/rows.py        # writes recipes/data/names-train.conll and names-eval.conll

Names of the evaluation rows stand in no training row, so what is learned is where names stand, and not which there are.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
PATTERNS = (
    "{person} works for {company} in {place} .",
    "{company} opened an office in {place} last year .",
    "Yesterday {person} met {person} in {place} .",
    "The train from {place} to {place} was late again .",
    "{person} , who lives in {place} , wrote a book .",
    "Shares of {company} rose after {person} resigned .",
    "Nobody in {place} had heard of {company} .",
    "It rained all day , and the match was called off .",
    "{person} and {person} founded {company} together .",
    "A spokesman of {company} declined to comment .",
)
TRAIN: Mapping[str, Sequence[str]] = {
    "person": ("Anna Lee", "Omar Haddad", "Maria Rossi", "Peter", "Ingrid Berg", "John Smith", "Chen Wei", "Fatima"),
    "place": ("Rome", "New York", "Berlin", "Cape Town", "Lima", "Paris", "San Francisco", "Kyoto"),
    "company": ("Acme Corp", "Northwind", "Globex Inc", "Blue Harbor Ltd", "Initech", "Stark Industries"),
}
EVAL: Mapping[str, Sequence[str]] = {
    "person": ("Laura Stein", "David", "Ravi Kumar"),
    "place": ("Madrid", "Buenos Aires", "Oslo"),
    "company": ("Umbrella Corp", "Wayne Industries", "Soylent Ltd"),
}
TAGS = {"person": "PER", "place": "LOC", "company": "ORG"}


def sentence(pattern: str, names: Mapping[str, Sequence[str]], draw: random.Random) -> str:
    """A pattern with names in it, a word and its tag a line."""
    lines: list[str] = []
    for word in pattern.split():
        kind = word.strip("{}")
        if kind not in names:
            lines.append(f"{word}\tO")
            continue
        for place, part in enumerate(draw.choice(names[kind]).split()):
            lines.append(f"{part}\t{'I' if place else 'B'}-{TAGS[kind]}")
    return "\n".join(lines)


def rows(count: int, names: Mapping[str, Sequence[str]], seed: int) -> str:
    """So many sentences, the same each time."""
    draw = random.Random(seed)
    return "\n\n".join(sentence(PATTERNS[n % len(PATTERNS)], names, draw) for n in range(count)) + "\n"


def with_names(text: str) -> str:
    """The sentences that hold a name: the others stand among the training rows too."""
    return "\n\n".join(one for one in text.strip().split("\n\n") if "\tB-" in one) + "\n"


if __name__ == "__main__":
    (DATA / "names-train.conll").write_text(rows(200, TRAIN, 1), encoding="utf-8")
    (DATA / "names-eval.conll").write_text(with_names(rows(60, EVAL, 2)), encoding="utf-8")
