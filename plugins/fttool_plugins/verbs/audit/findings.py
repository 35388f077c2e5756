"""What is to be known that is about no single row: rules of size and of balance, each with where it comes from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fttool.verbs import Loaded, Surveyed
from fttool_plugins.verbs.audit.report import Finding, Overlap, Tokens
from fttool_plugins.verbs.audit.steps import as_words

LEAST, ENOUGH, MANY = 10, 50, 1_000
PER_CLASS = 100
SMALL_SHARE = 0.1
"""Of the largest class."""

OPENAI = "OpenAI's guide to fine-tuning: 10 rows at least, and clear gains from 50 to 100"
OPENAI_CLASSES = "OpenAI's guide to fine-tuning classifiers: about 100 rows a class at least"
LIMA = "Zhou et al. 2023 (LIMA, arXiv 2305.11206): 1,000 chosen rows teach a large model how to answer"
FEW_SAMPLE = "Zhang et al. 2021 (arXiv 2006.05987): with 1,000 rows or fewer, results differ much between seeds"
BINOMIAL = "the standard error of a share, √(¼/n) at most"
OURS = "fttool's own rule"


def findings(
    loaded: Loaded,
    datasets: Sequence[Surveyed],
    rows: int,
    tokens: Tokens,
    classes: Mapping[str, int],
    overlap: Overlap,
) -> Iterator[Finding]:
    """All of them, the most important first."""
    level, measured = loaded.recipe.task.learns, sum(len(one.examples) for one in datasets if one.part == "eval")
    yield from _size(rows, level)
    yield from _of_classes(level, classes, datasets)
    if not measured and not loaded.recipe.data.eval_share:
        yield Finding(
            message="nothing to measure on: set data.eval_share, or add [[data.eval]] (for a bare file: --eval FILE)",
            source=OURS,
        )
    elif measured and measured < PER_CLASS:
        points = 100 * math.sqrt(0.25 / measured)
        yield Finding(
            message=f"{measured:,} evaluation rows: a share of right answers is known to ±{points:.0f} points",
            source=BINOMIAL,
        )
    if overlap.rows + overlap.prompts:
        yield Finding(
            message=f"{overlap.rows:,} training rows are measured on too, and {overlap.prompts:,} share the prompt "
            "with such a row, and not the answer: a run drops only the former",
            source=OURS,
        )
    if tokens.unmasked:
        first = tokens.unmasked_rows[0]
        yield Finding(
            message=f"{tokens.unmasked:,} rows have no mask, and a run ends on them: {first.row}: {first.reason}",
            source=OURS,
        )
    if tokens.cut_tokens:
        share = tokens.cut_tokens / tokens.total
        yield Finding(
            message=f"max_length = {tokens.max_length:,} cuts {tokens.cut_tokens:,} tokens ({share:.1%}) of "
            f"{tokens.long_rows:,} rows, {tokens.cut_learned:,} of them learned ones",
            source=OURS,
        )
    yield from (Finding(message=notice, source=OURS) for one in datasets for notice in one.notices)


def _size(rows: int, level: str | None) -> Iterator[Finding]:
    if rows < LEAST:
        yield Finding(message=f"{rows:,} training rows are too few for any task", source=OPENAI)
    elif rows < ENOUGH:
        yield Finding(message=f"{rows:,} training rows are few: look at every one of them", source=OPENAI)
    elif rows < MANY:
        source = LIMA if level == "token" else FEW_SAMPLE
        yield Finding(message=f"{rows:,} training rows: each one counts; compare runs by several seeds", source=source)


def _of_classes(level: str | None, classes: Mapping[str, int], datasets: Sequence[Surveyed]) -> Iterator[Finding]:
    if level == "row":
        yield from _balance(classes)
    if level in ("row", "word"):
        yield from _missing(classes, datasets)


def _missing(classes: Mapping[str, int], datasets: Sequence[Surveyed]) -> Iterator[Finding]:
    """Classes that are on one side only, where both sides have some."""
    measured = Counter(
        name for one in datasets if one.part == "eval" for example in one.examples for name in example.labels or ()
    )
    if not classes or not measured:
        return
    for what, ours, theirs in (
        ("learned and never measured: no number tells how well they are known", classes, measured),
        ("measured and never learned: a run refuses such rows, or gets each of them wrong", measured, classes),
    ):
        absent = {name: count for name, count in ours.items() if name not in theirs}
        if absent:
            yield Finding(message=f"classes that are {what}: {as_words(absent, 5)}", source=OURS)


def _balance(classes: Mapping[str, int]) -> Iterator[Finding]:
    few = [f"'{name}' ({count:,})" for name, count in classes.items() if count < PER_CLASS]
    if few:
        more = f" and {len(few) - 5:,} more" if len(few) > 5 else ""
        yield Finding(
            message=f"classes with fewer than {PER_CLASS} rows: {', '.join(few[:5])}{more}", source=OPENAI_CLASSES
        )
    if classes and min(classes.values()) < SMALL_SHARE * max(classes.values()):
        rare, often = min(classes, key=lambda name: classes[name]), max(classes, key=lambda name: classes[name])
        yield Finding(
            message=f"class '{rare}' has {classes[rare]:,} rows where '{often}' has {classes[often]:,}: "
            "accuracy hides what becomes of it, macro-f1 does not",
            source=OURS,
        )
