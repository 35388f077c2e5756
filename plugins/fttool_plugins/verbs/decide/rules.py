"""Rules of thumb, applied to the rows that there are, each with where it comes from.

They are what practitioners go by, not a measurement of this task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fttool.api import Example
from fttool.verbs import counted

FEW = 100
"""Examples below which a prompt is the thing to try."""
PER_CLASS = 500, 5_000
SENTENCES = 5_000, 20_000
PAIRS = 1_000
DOCUMENTS = 10_000, 100_000


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says of these rows."""

    rule: str
    """With its figures."""
    seen: str
    """What it was applied to."""
    verdict: str
    """`enough`, `few` or `more than usual`; `prompt` of the first rule where it holds."""
    advice: str
    source: str


def rules(task: str, level: str | None, examples: Sequence[Example]) -> Iterator[Said]:
    """Those that are about such rows: the task's id, what it learns of a row, and the training rows."""
    rows = len(examples)
    yield _few(rows)
    if level == "row":
        yield from _classes(examples)
    elif level == "word":
        yield _between(
            f"{task}: {SENTENCES[0]:,} to {SENTENCES[1]:,} sentences", rows, "sentence", SENTENCES, SOURCES["word"]
        )
    elif level == "token" and is_documents(examples):
        rule = f"domain adaptation: {DOCUMENTS[0]:,} to {DOCUMENTS[1]:,} documents"
        yield _between(rule, rows, "document", DOCUMENTS, SOURCES["documents"])
    elif level == "token":
        yield _pairs(rows)


def is_documents(examples: Sequence[Example]) -> bool:
    """True where most rows are text that is learned whole."""
    whole = sum(1 for one in examples if one.labels is None and not one.messages and not one.prompt)
    return 2 * whole > len(examples)


SOURCES = {
    "few": "Le Scao and Rush 2021, arXiv 2103.08493: on classification a prompt is worth hundreds of examples",
    "row": "practice; ULMFiT, Howard and Ruder 2018, arXiv 1801.06146, figure 3, has error rates from 100 rows on",
    "word": "practice; the usual benchmark, CoNLL-2003, has about 14,000 training sentences",
    "pairs": "LIMA, Zhou et al. 2023, arXiv 2305.11206: 1,000 curated pairs; quality before number",
    "documents": "practice; Gururangan et al. 2020, arXiv 2004.10964, adapt to tasks with 500 to over 100,000 texts",
}
"""Of each rule."""


def _few(rows: int) -> Said:
    rule, seen = f"under {FEW} examples: prompt", counted(rows, "training row")
    if rows < FEW:
        advice = "put examples into the prompt, and use the rows to measure with"
        return Said(rule, seen, "prompt", advice, SOURCES["few"])
    return Said(rule, seen, "enough", "fine-tuning can be tried", SOURCES["few"])


def _classes(examples: Sequence[Example]) -> Iterator[Said]:
    """By the rarest class, as that is the one that is learned worst."""
    counts = Counter(label for example in examples for label in example.labels or ())
    if not counts:
        return
    rarest = min(counts, key=lambda name: (counts[name], name))
    rule = f"classification: {PER_CLASS[0]:,} to {PER_CLASS[1]:,} rows a class"
    seen = f"{counted(counts[rarest], 'row')} of the rarest of {len(counts)} classes, '{rarest}'"
    yield Said(rule, seen, *_judged(counts[rarest], PER_CLASS), SOURCES["row"])


def _pairs(rows: int) -> Said:
    rule, seen = f"instructions: {PAIRS:,} good pairs", counted(rows, "training row")
    if rows < PAIRS:
        return Said(rule, seen, "few", f"{PAIRS - rows:,} more good ones, or fewer expectations", SOURCES["pairs"])
    return Said(rule, seen, "enough", "better rows now bring more than further ones: fttool audit", SOURCES["pairs"])


def _between(rule: str, rows: int, noun: str, usual: tuple[int, int], source: str) -> Said:
    return Said(rule, counted(rows, noun), *_judged(rows, usual), source)


def _judged(rows: int, usual: tuple[int, int]) -> tuple[str, str]:
    low, high = usual
    if rows < low:
        return "few", f"{low - rows:,} more would be usual"
    if rows > high:
        return "more than usual", "a part of them may do"
    return "enough", "as many as usual"
