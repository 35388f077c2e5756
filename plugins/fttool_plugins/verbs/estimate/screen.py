"""The estimate for people, and for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from fttool.verbs import aligned, counted
from fttool_plugins.verbs.estimate.estimating import Place, Result
from fttool_plugins.verbs.estimate.memory import USABLE
from fttool_plugins.verbs.estimate.price import Span
from fttool_plugins.verbs.estimate.words import dollars, duration, figure, hours

GIB = 2**30


def screen(result: Result) -> list[str]:
    """What is computed, then how long, how much memory and what for, then where the figures come from."""
    width = min(shutil.get_terminal_size().columns, 110)
    lines = [f"{result.loaded.name}: {counted(result.rows, 'row')}, {counted(result.work.updates, 'update')}", ""]
    lines += [f"  {what:<10}  {text}" for what, text in _work(result)]
    lines += ["", *(f"  {line}" for line in aligned(_table(result.places)))]
    texts = [text for place in result.places for text in _memory(place)]
    if result.token_dollars is not None:
        texts.append(
            f"An API at ${result.token_price:g} per million tokens would take ${result.token_dollars:,.2f} for the "
            f"{result.work.tokens:,.0f} training tokens."
        )
    for part in (texts, _sources(result)):
        lines += ["", *(line for text in part for line in textwrap.wrap(text, width, subsequent_indent="    "))]
    return lines


def _work(result: Result) -> list[tuple[str, str]]:
    done = result.work
    padding = f", {1 - done.tokens / done.slots:.1%} of them padding" if done.slots else ""
    frozen = f"{done.trained:,} of {done.parameters:,} parameters train"
    rows = [
        ("tokens", f"{done.tokens:,.0f} learned from, in {done.slots:,.0f} slots{padding}"),
        ("updates", f"{figure(done.training)}FLOP: {frozen}"),
    ]
    if done.kept:
        rows.append(("features", f"{figure(done.features)}FLOP: the base model runs once, an update costs the head"))
    if done.evaluation:
        rows.append(("evaluation", f"{figure(done.evaluation)}FLOP"))
    return rows


def _table(places: Sequence[Place]) -> list[tuple[str, ...]]:
    priced = any(place.price for place in places)
    head = ("where", "time", "GPU-hours", *(("dollars",) if priced else ()), "memory each")
    return [head, *(_row(place, priced=priced) for place in places)]


def _row(place: Place, *, priced: bool) -> tuple[str, ...]:
    total = place.seconds.total
    short = total.middle < 3600
    spelt = f"{duration(total.middle)} ({duration(total.low)}–{duration(total.high)})"
    time = spelt if short else f"{hours(place.hours)} h"
    cost = (dollars(place.dollars) if place.dollars else "no price",) if priced else ()
    best = next((fit for fit in place.memory if fit.fits), None)
    there = f"{place.memory_there / GIB:.0f} GiB"
    memory = f"{best.needed / GIB:.1f} of {there}, {best.sharding}" if best else f"does not fit {there}"
    name = place.name if place.gpus == 1 else f"{place.gpus} × {place.name}"
    return (name, time, hours(place.gpu_hours), *cost, memory)


def _memory(place: Place) -> list[str]:
    """Each sharding's share, and what would help where none fits."""
    listed = ", ".join(
        f"{fit.sharding} {fit.needed / GIB:.1f}{'' if fit.fits else ' (too much)'}" for fit in place.memory
    )
    lines = [f"{place.name}: GiB of each by sharding, by estimate: {listed}"]
    if place.measured_memory is not None:
        lines.append(f"{place.name}: {place.measured_memory / GIB:.2f} GiB were in use when it was measured")
    if place.remedies:
        lines.append(f"{place.name}: it would fit with {'; or with '.join(place.remedies)}")
    elif not any(fit.fits for fit in place.memory):
        lines.append(f"{place.name}: no number of them would do; a GPU with more memory, or a smaller model")
    return lines


def _sources(result: Result) -> list[str]:
    """Where each figure comes from, and what it leaves out."""
    texts = [f"speed, {place.name}: {place.source}" for place in result.places]
    texts += [f"price, {place.name}: {place.price.source}" for place in result.places if place.price]
    if any(place.price is None for place in result.places):
        texts.append("a price makes dollars of hours: --price 2.50")
    texts += dict.fromkeys(note for place in result.places for note in place.notes)
    if result.measured is None:
        texts.append("published runs are of code tuned for its GPU: on the GPU itself, fttool estimate measures")
    texts += result.work.notes
    texts.append("starting, saving and loading are not in it; a tenth of each device's memory stays free")
    return texts


def as_json(result: Result) -> dict[str, Any]:
    """All of it; a span is `[low, middle, high]`."""
    done = result.work
    return {
        "recipe": str(result.loaded.path),
        "name": result.loaded.name,
        "rows": result.rows,
        "precision": result.precision,
        "work": {
            "updates": done.updates,
            "micro_batches": done.passes,
            "tokens": done.tokens,
            "slots": done.slots,
            "parameters": done.parameters,
            "trained_parameters": done.trained,
            "operations": {
                "updates": done.training,
                "evaluation": done.evaluation,
                "features": done.features,
                "total": done.operations,
            },
            "keeps_features": done.kept,
            "notes": list(done.notes),
        },
        "measured": None
        if result.measured is None
        else {
            "operations_per_second": result.measured.speed.rate,
            "seconds_per_micro_batch": result.measured.speed.each,
            "spread": result.measured.speed.spread,
            "micro_batches": list(result.measured.micro_batches),
            "updates": [[one.operations, one.passes, one.seconds] for one in result.measured.updates],
        },
        "places": [_place(place) for place in result.places],
        "token_price": result.token_price,
        "token_dollars": result.token_dollars,
    }


def _place(place: Place) -> dict[str, Any]:
    updates, evaluation, features = place.seconds.spans
    return {
        "name": place.name,
        "gpus": place.gpus,
        "seconds": {"updates": _span(updates), "evaluation": _span(evaluation), "features": _span(features)},
        "hours": _span(place.hours),
        "gpu_hours": _span(place.gpu_hours),
        "dollars": _span(place.dollars) if place.dollars else None,
        "price": {"per_hour": [place.price.low, place.price.high], "source": place.price.source}
        if place.price
        else None,
        "source": place.source,
        "memory": {
            "device_bytes": place.memory_there,
            "usable_share": USABLE,
            "by_sharding": {fit.sharding: {"bytes": fit.needed, "fits": fit.fits} for fit in place.memory},
            "measured_bytes": place.measured_memory,
            "remedies": list(place.remedies),
        },
        "notes": list(place.notes),
    }


def _span(span: Span) -> list[float]:
    return [span.low, span.middle, span.high]
