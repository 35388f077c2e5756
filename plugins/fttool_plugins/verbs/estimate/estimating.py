"""The estimate itself: a recipe's work, and what it takes here or on GPUs elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from fttool.api import DataError, Memory, Numerics
from fttool.verbs import Loaded, Outline, outline, plan_for_gpus, with_overrides
from fttool_plugins.verbs.estimate import calibration
from fttool_plugins.verbs.estimate.hardware import GPU, rate
from fttool_plugins.verbs.estimate.measuring import Measured, Seconds, Speed, measured
from fttool_plugins.verbs.estimate.memory import Fit, fits, remedies
from fttool_plugins.verbs.estimate.price import Price, Span, price_of
from fttool_plugins.verbs.estimate.workload import Subject, Work, of_outline, work

GIB = 2**30
SHORT = 4096
"""Slots of a micro-batch below which a GPU of the table is not kept busy as in the published runs."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a run takes somewhere."""

    name: str
    """A GPU's, or `here`."""
    gpus: int
    seconds: Seconds
    source: str
    """Where the speed comes from."""
    price: Price | None
    memory: Sequence[Fit]
    """Under each sharding that so many have; here under the recipe's own alone."""
    memory_there: float
    """Bytes of each device."""
    measured_memory: int | None = None
    """Bytes that a process really had; None where nothing was measured."""
    remedies: Sequence[str] = ()
    """What would make it fit, where nothing does."""
    notes: Sequence[str] = ()

    @property
    def hours(self) -> Span:
        """Of the clock."""
        return self.seconds.total * (1 / 3600)

    @property
    def gpu_hours(self) -> Span:
        """Of all GPUs together."""
        return self.hours * self.gpus

    @property
    def dollars(self) -> Span | None:
        """None without a price."""
        return self.price.of(self.gpu_hours) if self.price else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """All of it."""

    loaded: Loaded
    work: Work
    rows: int
    precision: str
    places: Sequence[Place]
    measured: Measured | None
    token_price: float | None
    """Dollars per million training tokens."""

    @property
    def token_dollars(self) -> float | None:
        """What an API would take for the same rows, as often as they are seen."""
        return None if self.token_price is None else self.work.tokens / 1e6 * self.token_price


def here(loaded: Loaded, options: argparse.Namespace) -> Result:
    """Measured on this machine."""
    run = outline(loaded, quiet=options.quiet)
    subject = _subject(run, options)
    found = measured(loaded, options.updates, quiet=options.quiet)
    calibration.remember(subject.recipe, found.speed)
    speed = calibration.mended(found.speed, calibration.lines(calibration.device_name(), run.run.numerics.autocast))
    counted, there = work(subject), float(run.device_bytes)
    processes = counted.processes
    place = Place(
        name="here",
        gpus=processes,
        seconds=speed.seconds(counted),
        source=speed.source,
        price=_by_machine(price_of(None, options.price), processes, on_gpu=found.on_gpu),
        memory=fits(_held(run, subject, device=int(there)), processes, there),
        memory_there=there,
        measured_memory=found.peak_memory_bytes,
        notes=found.notes,
    )
    return _result(loaded, run, subject, counted, [place], options, found)


def elsewhere(loaded: Loaded, gpus: Sequence[tuple[GPU, int]], options: argparse.Namespace) -> Result:
    """On GPUs that are not here, by what others have published."""
    numerics = [_numerics(loaded, native_bf16) for native_bf16 in sorted({gpu.bf16 for gpu, _ in gpus})][-1]
    run = outline(loaded, rows=options.rows, numerics=numerics, quiet=options.quiet)
    subject = _subject(run, options)
    counted = work(subject)
    places = [_place(run, subject, counted, gpu, number, options.price) for gpu, number in gpus]
    return _result(loaded, run, subject, counted, places, options, None)


def _numerics(loaded: Loaded, native_bf16: bool) -> Numerics:
    """The number formats on GPUs; a `RecipeError` where they do not compute in what the recipe names."""
    return plan_for_gpus(with_overrides(loaded, {"sharding": "none"}), native_bf16=native_bf16)[1]


def _place(
    run: Outline, subject: Subject, counted: Work, gpu: GPU, number: int, price: tuple[float, float] | None
) -> Place:
    """A run on so many GPUs of a kind; the memory is that of the recipe's micro-batch."""
    recomputed = subject.recipe.model.gradient_checkpointing
    known, there = rate(gpu, counted.parameters, recomputed=recomputed), gpu.memory_gib * GIB
    spread = Speed(rate=known.middle, each=0.0, spread=0.0, source=known.source).seconds(
        replace(counted, processes=number, features=counted.features / number)
    )
    seconds = Seconds(*(_from_to(span, known.middle / known.high, known.middle / known.low) for span in spread.spans))
    held = partial(_held, run, subject, device=int(there))
    memory = fits(held(), number, there)
    notes = [] if gpu.bf16 else [f"{gpu.name} has no bf16: the figures are those of fp16"]
    if subject.recipe.run.micro_batch == "auto":
        notes.append("run.micro_batch is 'auto': memory is that of a whole update at once, and a run takes fewer rows")
    if subject.largest.slots < SHORT:
        notes.append(
            f"micro-batches of {subject.largest.slots:,.0f} slots keep a GPU less busy than the published runs were, "
            "so it may take longer"
        )
    return Place(
        name=gpu.name,
        gpus=number,
        seconds=seconds,
        source=known.source,
        price=price_of(gpu, price),
        memory=memory,
        memory_there=there,
        remedies=[] if any(fit.fits for fit in memory) else remedies(held, number, there),
        notes=notes,
    )


def _held(
    run: Outline, subject: Subject, *, device: int, recomputed: bool | None = None, micro_batch: int | None = None
) -> Memory:
    """What an unsharded process would hold at the micro-batch with most slots, or with another number of rows in it."""
    largest = subject.largest
    share = 1.0 if micro_batch is None else min(1.0, micro_batch / subject.recipe.micro_batch)
    recompute = subject.recipe.model.gradient_checkpointing if recomputed is None else recomputed
    return run.memory(
        max(1, round(largest.slots * share)),
        max(1, round(largest.places * share)),
        device=device,
        recomputed=recompute,
    )


def _from_to(span: Span, low: float, high: float) -> Span:
    return Span(span.middle * low, span.middle, span.middle * high)


def _subject(run: Outline, options: argparse.Namespace) -> Subject:
    subject = of_outline(run, rows=options.rows, tokens=options.row_tokens or 0, learned=options.learned)
    if not subject.epoch.passes:
        raise DataError("there are no rows to learn from", hint="fttool validate says what became of them")
    return subject


def _by_machine(price: Price | None, processes: int, *, on_gpu: bool) -> Price | None:
    """Of a machine without GPUs an hour costs what it costs, however many processes compute on it."""
    if price is None or on_gpu:
        return price
    return Price(price.low / processes, price.high / processes, price.source)


def _result(
    loaded: Loaded,
    run: Outline,
    subject: Subject,
    counted: Work,
    places: Sequence[Place],
    options: argparse.Namespace,
    found: Measured | None,
) -> Result:
    return Result(
        loaded=loaded,
        work=counted,
        rows=subject.rows,
        precision=run.run.numerics.autocast,
        places=places,
        measured=found,
        token_price=options.token_price,
    )
