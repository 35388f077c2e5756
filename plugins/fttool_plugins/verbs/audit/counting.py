"""Rows counted: tokens and lengths against `max_length`, turns, classes, repeated rows, and rows that are measured."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from fttool.api import Example, Recipe, RowEncoder
from fttool.verbs import Loaded, Surveyed, mapped
from fttool_plugins.filter.exact_duplicates import compared_part
from fttool_plugins.filter.near_duplicates import normalised
from fttool_plugins.filter.parts import part_text
from fttool_plugins.verbs.audit.report import Dataset, Overlap, Repeated, Shown, Tokens, Turns

MOST_ENCODED = 5_000
"""Rows that are made into tokens; of more, a sample is."""
SHOWN = 10
STEPS = 20
"""Bars of the picture of lengths."""
PART = 110
"""Characters that an excerpt has of a prompt, and of an answer."""


def excerpt(example: Example) -> str:
    """The beginning of what is asked and of what is to be said, on one line."""
    prompt, answer = part_text(example, "prompt"), part_text(example, "answer")
    if example.labels is not None:
        answer = ", ".join(dict.fromkeys(example.labels)) or "no class"
    return f"{shortened(prompt)} → {shortened(answer)}" if prompt else shortened(answer)


def shortened(text: str) -> str:
    """At most `PART` characters, on one line."""
    plain = " ".join(text[: 4 * PART].split())
    return plain if len(plain) <= PART and len(text) <= 4 * PART else plain[:PART].rstrip() + " …"


def dataset(surveyed: Surveyed) -> Dataset:
    """What was read, with the first bad rows."""
    return Dataset(
        part=surveyed.part,
        name=surveyed.name,
        format=surveyed.format,
        rows=len(surveyed.examples),
        left_out=surveyed.left_out,
        bad=len(surveyed.bad),
        bad_rows=[Shown(row=row, excerpt="", reason=wrong) for row, wrong in surveyed.bad[:SHOWN]],
        notices=surveyed.notices,
    )


def sampled(examples: Sequence[Example], most: int, seed: int) -> Sequence[Example]:
    """All of them, or `most` that the seed chooses, in their order."""
    if len(examples) <= most:
        return examples
    return [examples[place] for place in sorted(random.Random(seed).sample(range(len(examples)), most))]


@dataclass(frozen=True, slots=True)
class _Counted:
    """A row in tokens, as far as it is counted."""

    tokens: int
    learned: int
    cut_learned: int
    """Learned tokens beyond `max_length`."""
    dropped: str
    """Why a run would drop it; empty where it would not."""


def tokens(loaded: Loaded, encode: RowEncoder, examples: Sequence[Example], track: Any) -> Tokens:
    """The rows in tokens, and what a run would cut and drop of them."""
    recipe, longest = loaded.recipe, loaded.recipe.batching.max_length
    looked_at = sampled(examples, MOST_ENCODED, recipe.run.seed)
    counted: list[_Counted] = []
    unmasked: list[Shown] = []
    with closing(mapped(partial(_parts, recipe, encode), looked_at, recipe.data.workers)) as results:
        for _, parts in zip(track(looked_at, "counting tokens"), results, strict=True):
            for one in parts:
                (unmasked if isinstance(one, Shown) else counted).append(one)  # pyright: ignore[reportArgumentType]
    lengths, learned = [one.tokens for one in counted], sum(one.learned for one in counted)
    total, cut = sum(lengths), recipe.batching.too_long == "truncate"
    return Tokens(
        rows=len(looked_at),
        of=len(examples),
        total=total,
        learned=learned,
        learned_share=learned / total if total else 0.0,
        quantiles=quantiles(lengths),
        lengths=histogram(lengths),
        max_length=longest,
        too_long=recipe.batching.too_long,
        long_rows=sum(length > longest for length in lengths),
        cut_tokens=sum(max(0, length - longest) for length in lengths) if cut else 0,
        cut_learned=sum(one.cut_learned for one in counted) if cut else 0,
        dropped=dict(Counter(one.dropped for one in counted if one.dropped)),
        unmasked=len(unmasked),
        unmasked_rows=unmasked[:SHOWN],
    )


def _parts(recipe: Recipe, encode: RowEncoder, example: Example) -> list[_Counted | Shown]:
    """The rows that masking makes of an example, counted; shown where it has no mask."""
    longest, too_long = recipe.batching.max_length, recipe.batching.too_long
    keeps_end = recipe.batching.truncate == "keep_end"
    found: list[_Counted | Shown] = []
    for part in recipe.masking.split(example):
        try:
            row = encode(part)
        except ValueError as wrong:
            found.append(Shown(row=part.origin, excerpt=excerpt(part), reason=str(wrong)))
            continue
        marked, dropped = [label != -100 for label in row.labels], ""
        kept = marked[-longest:] if keeps_end else marked if too_long == "split" else marked[:longest]
        if len(marked) > longest and too_long == "drop":
            dropped = f"longer than {longest} tokens"
        elif row.classes is None and not any(kept[1:]):
            dropped = "nothing to learn" + (" in what is kept of it" if len(kept) < len(marked) else "")
        cut = marked[:-longest] if keeps_end and len(marked) > longest else marked[longest:]
        found.append(_Counted(len(row.input_ids), sum(marked), sum(cut), dropped))
    return found


def quantiles(values: Iterable[int]) -> dict[str, int]:
    """By the nearest rank: the least value that at least so many of the values do not exceed."""
    ranked = sorted(values)
    if not ranked:
        return {}
    shares = {"shortest": 0.0, "median": 0.5, "90%": 0.9, "99%": 0.99, "longest": 1.0}
    return {name: ranked[max(0, -int(-share * len(ranked) // 1) - 1)] for name, share in shares.items()}


def histogram(lengths: Sequence[int]) -> list[int]:
    """How many lengths lie in each of `STEPS` steps of one width from 0 to the longest."""
    counts, longest = [0] * STEPS, max(lengths, default=0)
    for length in lengths:
        counts[min(STEPS - 1, length * STEPS // max(1, longest))] += 1
    return counts


def turns(examples: Iterable[Example]) -> Turns | None:
    """Turns and roles; None where there is no conversation."""
    roles, rows, most, system = Counter[str](), 0, 0, 0
    for example in examples:
        if example.messages:
            spoken = [str(turn.get("role")) for turn in example.messages]
            roles.update(spoken)
            rows, most, system = rows + 1, max(most, len(spoken)), system + (spoken[0] == "system")
    if not rows:
        return None
    return Turns(rows=rows, mean=roles.total() / rows, most=most, roles=dict(roles.most_common()), system=system)


def classes(examples: Iterable[Example]) -> Mapping[str, int]:
    """Rows, or words, of each class, the most frequent first."""
    return dict(Counter(name for example in examples for name in example.labels or ()).most_common())


def repeated(examples: Sequence[Example]) -> Repeated:
    """Rows that are there more than once."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        places[hash(compared_part(example, "row"))].append(place)
    several = sorted((group for group in places.values() if len(group) > 1), key=len, reverse=True)
    return Repeated(
        rows=sum(len(group) - 1 for group in several),
        examples=[
            Shown(
                row=examples[group[0]].origin,
                excerpt=excerpt(examples[group[0]]),
                reason=f"there {len(group):,} times",
                like=examples[group[1]].origin,
            )
            for group in several[:SHOWN]
        ],
    )


def overlap(examples: Sequence[Example], measured: Sequence[Example]) -> Overlap:
    """Training rows that stand among those that are measured on, whole or with their prompt."""
    rows = {compared_part(example, "row"): example.origin for example in measured}
    asked = {prompt: example.origin for example in measured if (prompt := prompt_of(example))}
    same: list[Shown] = []
    prompts: list[Shown] = []
    count = [0, 0]
    for example in examples if measured else ():
        like = rows.get(compared_part(example, "row"))
        found, which = (same, 0) if like else (prompts, 1)
        like = like or asked.get(prompt_of(example))
        if like:
            count[which] += 1
            if len(found) < SHOWN:
                reason = "also measured on" if which == 0 else "its prompt is measured on too"
                found.append(Shown(row=example.origin, excerpt=excerpt(example), reason=reason, like=like))
    return Overlap(measured=len(measured), rows=count[0], prompts=count[1], examples=[*same, *prompts][:SHOWN])


def prompt_of(example: Example) -> str:
    """What is asked, without what makes no difference; empty where nothing is."""
    return normalised(part_text(example, "prompt"))
