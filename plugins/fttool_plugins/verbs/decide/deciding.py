"""All that `fttool decide` finds out, put together."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fttool.api import DataError, Example, UsageError
from fttool.verbs import Loaded, Surveyed, progress, row_tokenizer, survey
from fttool_plugins.verbs.audit.reading import audited
from fttool_plugins.verbs.decide.arguments import SHOTS
from fttool_plugins.verbs.decide.budget import Budget
from fttool_plugins.verbs.decide.counting import Requests, count
from fttool_plugins.verbs.decide.crossover import Case, break_even, totals
from fttool_plugins.verbs.decide.measuring import Findings, measured
from fttool_plugins.verbs.decide.rules import Said, rules
from fttool_plugins.verbs.decide.training_cost import TrainingCost, training_cost
from fttool_plugins.verbs.estimate.price import Span

BUDGET = 600.0
"""Seconds of `--measure` where nobody says how many."""


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """A case whose cost of training is from–to."""

    case: Case
    """With the middle of it."""
    training: TrainingCost

    def at(self, dollars: float) -> Case:
        """The case with another cost of training."""
        return replace(self.case, training=dollars)

    @property
    def break_even(self) -> Span:
        """Requests; infinite where fine-tuning never costs less."""
        span = self.training.dollars
        return Span(*(break_even(self.at(dollars)) for dollars in (span.low, span.middle, span.high)))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found."""

    source: str
    """What was looked at; empty where only figures were given."""
    model: str
    crossover: Crossover | None
    requests: Requests | None
    """As they were counted in rows."""
    rules: Sequence[Said]
    findings: Findings | None = None
    """What was measured."""


def decided(options: argparse.Namespace) -> Result:
    """Read, count, compute."""
    if options.recipe is None:
        return Result(source="", model="", crossover=_crossover(options, None, None), requests=None, rules=())
    options.eval = None
    shots = SHOTS if options.shots is None else options.shots
    loaded, _ = audited(options)
    shown = progress(quiet=options.quiet or options.json)
    shown.stage("reading the rows")
    tokenizer = row_tokenizer(loaded)
    datasets = survey(loaded, tokenizer)
    examples = training_rows(datasets)
    requests = count(loaded, examples, tokenizer, shots=shots, instructions=options.instructions)
    crossover = _crossover(options, loaded, requests) if options.input_price is not None else None
    task = loaded.recipe.task
    source = loaded.recipe.model.source
    return Result(
        source=str(options.recipe),
        model=f"{source.id()}:{source.path}",
        crossover=crossover,
        requests=requests,
        rules=list(rules(task.id(), task.learns, examples)),
        findings=_measured(options, loaded, datasets, shots, shown.stage) if options.measure else None,
    )


def training_rows(datasets: Sequence[Surveyed]) -> Sequence[Example]:
    """All that can be read; `DataError` where there are none."""
    examples = [example for one in datasets if one.part == "train" for example in one.examples]
    if not examples:
        bad = [where for one in datasets if one.part == "train" for where in one.bad]
        first = f"; the first that cannot be read is {bad[0][0]}: {bad[0][1]}" if bad else ""
        raise DataError(f"there are no training rows{first}", hint="fttool audit says what became of them")
    return examples


def _measured(
    options: argparse.Namespace, loaded: Loaded, datasets: Sequence[Surveyed], shots: int, say: Callable[[str], None]
) -> Findings:
    return measured(loaded, datasets, shots=shots, budget=Budget(options.budget or BUDGET), say=say)


def _crossover(options: argparse.Namespace, loaded: Loaded | None, rows: Requests | None) -> Crossover:
    """The case of the options, with what the rows say where they say nothing."""
    after = options.tuned_prompt_tokens
    before, output = options.prompt_tokens, options.output_tokens
    if rows is not None:
        after = rows.prompt if after is None else after
        before = rows.prompted if before is None else before
        output = rows.answer if output is None else output
    saved = max(0.0, 1 - after / before) if before else 0.0
    hosted = {"tuned_input_price": 0.0, "tuned_output_price": 0.0} if options.hosting else {}
    tuned = {name: hosted.get(name) if given is None else given for name, given in _tuned_prices(options).items()}
    share, cost = options.cached_share, training_cost(options, loaded)
    case = Case(
        prompt_tokens=before,
        tuned_prompt_tokens=after,
        output_tokens=output or 0.0,
        input_price=options.input_price,
        cached_price=options.cached_price or 0.0,
        cached_share=0.0 if options.cached_price is None else saved if share is None else share,
        output_price=options.output_price or 0.0,
        hosting=options.hosting or 0.0,
        training=cost.dollars.middle,
        retrain=options.retrain or 0.0,
        requests=options.requests,
        **tuned,
    )
    if not all(map(math.isfinite, (case.prompted, case.tuned, case.monthly, case.saving, totals(case, 1e9).tuned))):
        raise UsageError("the figures are too large to compute with", hint="prices are dollars per million tokens")
    return Crossover(case=case, training=cost)


def _tuned_prices(options: argparse.Namespace) -> dict[str, float | None]:
    return {"tuned_input_price": options.tuned_input_price, "tuned_output_price": options.tuned_output_price}
