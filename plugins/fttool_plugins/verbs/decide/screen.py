"""The decision for people, and for programs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fttool.verbs import aligned, counted
from fttool_plugins.verbs.decide.crossover import (
    ASSUMPTIONS,
    DAYS_A_MONTH,
    Case,
    break_even_days,
    sensitivities,
    totals,
    why_never,
)
from fttool_plugins.verbs.decide.deciding import Crossover, Result
from fttool_plugins.verbs.decide.measured_screen import measured_data, measured_parts
from fttool_plugins.verbs.decide.rules import Said
from fttool_plugins.verbs.estimate.price import Span
from fttool_plugins.verbs.estimate.words import dollars

ROUND = (1e3, 1e4, 1e5, 1e6, 1e7)
"""Requests of the table."""
DAYS = (1, 7, 30, 90, 365)
"""Of the table where it is known how many requests a day has."""
NEVER = "never"


def screen(result: Result, width: int) -> list[str]:
    """What costs less and from when on, by what that changes, and what rules of thumb say."""
    parts: list[Sequence[str]] = []
    if result.crossover is not None:
        parts += _crossover(result.crossover, width)
    if result.rules:
        parts.append(_rules(result.rules, width))
    if result.findings is not None:
        parts += measured_parts(result.findings, width)
    parts.append(list(_folded(_sources(result), width)))
    lines: list[str] = []
    for part in parts:
        lines += ["", *part] if lines else part
    return lines


def _crossover(found: Crossover, width: int) -> list[Sequence[str]]:
    parts: list[Sequence[str]] = [list(_folded([headline(found)], width)), aligned(_requests(found.case))]
    parts.append(aligned(_table(found)))
    swings = sensitivities(found.case)
    if swings:
        head = ("if this is off", "assumed", "half of it", "twice")
        rows = [
            (ASSUMPTIONS[one.field], f"{one.value:,.6g}", requests(one.halved), requests(one.doubled)) for one in swings
        ]
        parts.append(["Break-even in requests where one assumption is wrong:", *_indented(aligned([head, *rows]))])
    return parts


def headline(found: Crossover) -> str:
    """The answer in a sentence or two."""
    span, case = found.break_even, found.case
    if math.isinf(span.low):
        return f"Fine-tuning never costs less: {why_never(found.at(found.training.dollars.low))}."
    if math.isinf(span.high):
        worst = found.at(found.training.dollars.high)
        return f"Fine-tuning costs less from {span.low:,.0f} requests on, or never: {why_never(worst)}."
    if span.high == 0:
        return "Fine-tuning costs less from the first request on."
    ranged = f" ({span.low:,.0f}–{span.high:,.0f})" if span.low != span.high else ""
    sentence = f"Fine-tuning costs less from {counted(round(span.middle), 'request')} on{ranged}"
    days = break_even_days(case)
    if days is not None and case.requests:
        sentence += f", which is {_days(days)} at {case.requests:,.6g} a day"
    return f"{sentence}."


def requests(count: float) -> str:
    """So many, or never."""
    return NEVER if math.isinf(count) else f"{count:,.0f}"


def _days(days: float) -> str:
    return f"{days:,.1f} days" if days < 100 else f"{days:,.0f} days"


def _requests(case: Case) -> list[tuple[str, ...]]:
    """What a request has, and costs, either way."""
    cached = case.cached_share * case.prompt_tokens
    head = ["a request", "tokens in", *(["cached"] if cached else []), "out", "dollars"]
    out = f"{case.output_tokens:,.0f}"
    prompted = ["prompted", f"{case.prompt_tokens:,.0f}", *([f"{cached:,.0f}"] if cached else []), out]
    tuned = ["fine-tuned", f"{case.tuned_prompt_tokens:,.0f}", *(["0"] if cached else []), out]
    return [tuple(head), (*prompted, f"{case.prompted:.6f}"), (*tuned, f"{case.tuned + case.monthly_share:.6f}")]


def _table(found: Crossover) -> list[tuple[str, ...]]:
    """Both ways over requests, or over days."""
    case = found.case
    counts = [day * case.requests for day in DAYS] if case.requests else ROUND
    first = ("days", "requests") if case.requests else ("requests",)
    rows: list[tuple[str, ...]] = [(*first, "prompted", "fine-tuned", "and training", "costs less")]
    for at, count in enumerate(counts):
        day = (f"{DAYS[at]}",) if case.requests else ()
        rows.append((*day, f"{count:,.0f}", *_costs(found, count)))
    return rows


def _costs(found: Crossover, count: float) -> tuple[str, ...]:
    """Of so many requests: prompted, fine-tuned without the first training, that training, and which is less."""
    span, total = found.training.dollars, totals(found.case, count)
    less = {total.prompted <= paid + totals(found.at(paid), count).tuned for paid in (span.low, span.high)}
    verdict = "either" if len(less) == 2 else "prompt" if True in less else "fine-tuned"
    return _dollars(total.prompted), _dollars(total.tuned), dollars(span), verdict


def _dollars(value: float) -> str:
    return dollars(Span(value, value, value))


def _rules(said: Sequence[Said], width: int) -> list[str]:
    """A rule, what it sees, what it says, and where it is from."""
    lines = ["Rules of thumb:"]
    for one in said:
        text = f"{one.rule}. Here: {one.seen}: {one.verdict}; {one.advice}. ({one.source})"
        lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="      ")
    return lines


def _sources(result: Result) -> Iterator[str]:
    """Where the figures come from, and what they leave out."""
    if result.requests is not None:
        yield f"{result.requests.how}, with the tokenizer of {result.model}"
    if result.crossover is None:
        yield "prices make dollars of it: --input-price 3 --training 100-1000"
        return
    case = result.crossover.case
    yield f"training: {result.crossover.training.source}"
    if case.output_tokens == 0:
        yield "answers are left out: --output-tokens and --output-price count them"
    if case.monthly:
        yield f"hosting and training again cost ${case.monthly:,.2f} a month, spread evenly over its requests"
    yield "rows, labelling, and how good either model is, are not in it"


def _folded(texts: Sequence[str] | Iterator[str], width: int) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(text, width, subsequent_indent="    ")


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def as_json(result: Result) -> dict[str, Any]:
    """All of it; a span is `[low, middle, high]`, and null is never."""
    found = result.crossover
    return {
        "source": result.source or None,
        "model": result.model or None,
        "requests_in_rows": asdict(result.requests) if result.requests else None,
        "crossover": None if found is None else _crossover_data(found),
        "rules": [asdict(one) for one in result.rules],
        "measured": None if result.findings is None else measured_data(result.findings),
    }


def _crossover_data(found: Crossover) -> dict[str, Any]:
    case, span, crossing = found.case, found.training.dollars, found.break_even
    days = None if case.requests is None else [_number(each / case.requests) for each in _spread(crossing)]
    counts = [day * case.requests for day in DAYS] if case.requests else ROUND
    return {
        "assumed": asdict(case),
        "training": {"dollars": _spread(span), "source": found.training.source},
        "days_a_month": DAYS_A_MONTH,
        "dollars_a_request": {"prompted": case.prompted, "tuned": case.tuned + case.monthly_share},
        "break_even": {"requests": [_number(each) for each in _spread(crossing)], "days": days},
        "verdict": headline(found),
        "totals": [asdict(totals(case, count)) for count in counts],
        "sensitivity": [
            {"field": one.field, "assumed": one.value, "halved": _number(one.halved), "doubled": _number(one.doubled)}
            for one in sensitivities(case)
        ],
    }


def _spread(span: Span) -> list[float]:
    return [span.low, span.middle, span.high]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
