"""Five numbers for the whole of the rows, each with what it is computed from and what it cannot see."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from fttool.api import Example
from fttool_plugins.filter.parts import part_text
from fttool_plugins.verbs.audit.counting import SHOWN, excerpt, prompt_of, sampled
from fttool_plugins.verbs.audit.report import Indicator, Shown

COMPARED = 1_000
"""Rows whose similarities are computed, each with each: a square of numbers."""
JUDGED = 2_000
"""Rows of each side that are told apart."""
ALIKE = 0.8
"""Jaccard similarity of prompts from which on they ask the same."""
LONGER = 4
"""Times that an answer is longer or shorter than the usual one of its prompt, from which on they disagree."""


def diversity(examples: Sequence[Example], seed: int) -> Indicator:
    """How many of the rows are different ones."""
    from fttool_plugins.verbs.audit.ngrams import effective_number, hashed

    looked_at = sampled(examples, COMPARED, seed)
    value = says = None
    if looked_at:
        number = effective_number(hashed([part_text(example, "row") for example in looked_at]))
        value = number / len(looked_at)
        says = f"{len(looked_at):,} rows are as different as {number:,.0f} that share no words"
    return Indicator(
        name="diversity",
        value=value,
        says=says or "there are no rows",
        computed=f"the similarity of each two of {len(looked_at):,} rows by words and pairs of words (Vendi score)",
        blind="the same thing in other words, and whether what is different is any use; compare sets of one size",
    )


def correctness(clean: int, rows: int, filters: int) -> Indicator:
    """Which share of the rows no filter suspects."""
    return Indicator(
        name="correctness",
        value=clean / rows if rows else None,
        says=f"{clean:,} of {rows:,} rows are suspected by none of {filters} filters",
        computed="the filters' verdicts with their defaults, or with the recipe's options",
        blind="whether an answer is true: no filter knows the facts",
    )


def consistency(examples: Sequence[Example], seed: int) -> Indicator:
    """Whether prompts that ask the same are answered alike."""
    from fttool_plugins.filter.minhash import near_duplicates

    prompts = [prompt_of(example) for example in examples]
    first = near_duplicates(prompts, ALIKE, 5, seed)
    groups: dict[int, list[int]] = defaultdict(list)
    for place, earlier in enumerate(first):
        if prompts[place]:
            groups[place if earlier is None else earlier].append(place)
    several = [places for places in groups.values() if len(places) > 1]
    compared = sum(map(len, several))
    odd = [found for places in several for found in disagreeing([examples[place] for place in places])]
    says = f"{compared - len(odd):,} of {compared:,} rows whose prompt is there almost word for word more than once"
    return Indicator(
        name="consistency",
        value=1 - len(odd) / compared if compared else None,
        says=f"{says} are answered like the others" if compared else "no two prompts are almost the same",
        computed=f"prompts that are alike to {ALIKE:g} (Jaccard, by characters): class, form (JSON, code, list, text), "
        f"and length up to {LONGER} times the usual one",
        blind="answers of one form and length that say opposite things, and questions in other words",
        rows=odd[:SHOWN],
    )


def disagreeing(group: Sequence[Example]) -> list[Shown]:
    """Of rows whose prompts ask the same, those that are answered unlike most of the others."""
    if group[0].labels is not None:
        kinds: list[tuple[str, ...] | str] = [tuple(sorted(example.labels or ())) for example in group]
    else:
        kinds = [form_of(example.answer()) for example in group]
    usual, _ = Counter(kinds).most_common(1)[0]
    length = median(len(example.answer()) for example in group)
    found: list[Shown] = []
    for example, kind in zip(group, kinds, strict=True):
        reason = ""
        if kind != usual:
            is_class = not isinstance(kind, str)
            reason = f"{_named(kind)} where others have {_named(usual)}" if is_class else f"{kind}, others are {usual}"
        elif example.labels is None and not length / LONGER <= len(example.answer()) <= length * LONGER:
            reason = f"{len(example.answer()):,} characters where {length:,.0f} are usual"
        if reason:
            others = next(other.origin for other, name in zip(group, kinds, strict=True) if name == usual)
            like = others if others != example.origin else group[0].origin if group[0] is not example else ""
            found.append(Shown(row=example.origin, excerpt=excerpt(example), reason=reason, like=like))
    return found


def _named(classes: Sequence[str]) -> str:
    return ", ".join(classes) or "no class"


def form_of(answer: str) -> str:
    """In which form an answer is: `JSON`, `code`, `a list` or `text`."""
    text = answer.strip()
    if text[:1] in ("{", "["):
        try:
            json.loads(text)
        except ValueError:
            pass
        else:
            return "JSON"
    if "```" in text:
        return "code"
    if len(re.findall(r"^\s*(?:[-*•]|\d+[.)]) ", text, re.MULTILINE)) > 1:
        return "a list"
    return "text"


REPRESENTATIVE = "how well a classifier that has not seen them tells the rows from the sample (1 − 2·(AUC − ½))"


def representativeness(examples: Sequence[Example], against: Sequence[Example] | None, seed: int) -> Indicator:
    """Whether the rows look like those that will be asked; `against` is a sample of these."""
    value, says = None, "needs a sample of what will be asked: --against rows.jsonl"
    if against is not None and len(against) >= 2 and len(examples) >= 2:
        from fttool_plugins.verbs.audit.ngrams import hashed, telling_words, told_apart

        sides = [sampled(side, JUDGED, seed) for side in (examples, against)]
        part = "prompt" if all(prompt_of(example) for side in sides for example in side) else "row"
        ours, theirs = ([part_text(example, part) for example in side] for side in sides)
        area = told_apart(hashed(ours), hashed(theirs), seed)
        value = min(1.0, 2 - 2 * area)
        says = f"told from the sample by {'their prompts' if part == 'prompt' else 'all of their text'}: AUC {area:.2f}"
        if area > 0.6:
            here, there = (", ".join(telling_words(*pair)) for pair in ((ours, theirs), (theirs, ours)))
            says += f"; more here: {here or '–'}; more there: {there or '–'}"
    elif against is not None:
        says = "two rows at least are needed on either side"
    return Indicator(
        name="representativeness",
        value=value,
        says=says,
        computed=REPRESENTATIVE,
        blind="what has the same words and another meaning, and everything that the sample lacks itself",
    )


def difficulty(value: float | None, rows: int, model: str, says: str = "") -> Indicator:
    """How much the model that training begins with has to learn."""
    told = f"the loss per learned token, or per class, of {model} on {rows:,} of the rows, before any training"
    return Indicator(
        name="difficulty",
        value=value,
        says=says or told,
        computed="the starting model's own loss (0 for what it knows already; not a share)",
        blind="why a row is hard: one that is wrong is hard to predict, too",
    )
