"""Measure a model on rows that it does not learn from, exactly: statistics are summed over tokens, not over batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Example
from fttool.contracts.task import Answer, Measure, MetricContext, Predictions
from fttool.errors import Problem, RecipeError
from fttool.recipe.loaded import Loaded
from fttool.rows.prompts import expected_answer
from fttool.training.passes import Batch, InPasses, in_one
from fttool.training.progress import Progress
from fttool.world import ALONE, World
from fttool.yielded import built, checked_statistics

T = TypeVar("T")
Score = Callable[[Any, Mapping[str, Any]], Predictions]


def measures(loaded: Loaded, labels: tuple[str, ...] = ()) -> dict[str, Measure]:
    """The recipe's metrics by id, over the classes of these names where classes are learned."""
    context, metrics = MetricContext(labels=labels, **loaded.common), loaded.recipe.evaluation.metrics
    return {metric.id(): checked_statistics(metric, built(metric, context)) for metric in metrics}


def note_best(recipe: Recipe, progress: Progress, step: int) -> bool | None:
    """Note the latest evaluation, that of `step`, where it is better than all before it.

    None where there is nothing to choose by: there are no evaluation rows, and retention rows choose nothing.
    """
    name = recipe.evaluation.best or next(iter(progress.latest), None)
    if name is None:
        return None
    metric = next(metric for metric in recipe.evaluation.metrics if metric.id() == name)
    value = progress.latest[name]
    before = progress.best if progress.best is not None and math.isfinite(progress.best) else None
    better = math.isfinite(value) and (
        before is None or (value > before if metric.greater_is_better else value < before)
    )
    if better:
        progress.best, progress.best_step = value, step
    return better


def model_inputs(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """What of a micro-batch is the task's: its tensors, on this device, and its numbers."""
    return {
        key: value.to(device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
        if isinstance(value, torch.Tensor | int)
    }


@contextmanager
def evaluating(model: Any) -> Generator[None]:
    """Evaluation mode without gradients; each module's mode before comes back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def spaced(items: Sequence[T], number: int) -> list[T]:
    """So many of them, evenly spaced; all where there are fewer."""
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]


def asked_examples(recipe: Recipe, examples: Sequence[Example]) -> list[Example]:
    """The evaluation rows whose prompts are answered for metrics that look at answers; none where no metric does.

    Raises `RecipeError` where no row asks anything.
    """
    metrics = [metric for metric in recipe.evaluation.metrics if metric.generates]
    if not metrics:
        return []
    asking = [example for example in examples if example.messages or example.prompt]
    if not asking and examples:
        message = f"{metrics[0].id()} measures answers, and no evaluation row has a prompt"
        hint = "leave it out, or evaluate on conversations or prompts with completions"
        raise RecipeError(Problem(message, hint=hint, key=("evaluation", "metrics")))
    return spaced(asking, recipe.evaluation.generate.rows)


def answered(
    chosen: Mapping[str, Measure],
    examples: Sequence[Example],
    ask: Callable[[Sequence[Example]], Sequence[str]],
    device: torch.device,
    world: World = ALONE,
    *,
    together: bool = False,
) -> dict[str, torch.Tensor]:
    """The statistics of each metric of answers, summed over all processes: each asks its share of the examples.

    `together`: each asks all of them, as a forward pass is made by all processes or by none, and one of them counts.
    """
    counting = {name: measure.answers for name, measure in chosen.items() if measure.answers is not None}
    if not counting:
        return {}
    mine = examples if together else examples[world.rank :: world.size]
    given = ask(mine)
    pairs = zip(mine, given, strict=True)
    answers = [Answer(example=example, expected=expected_answer(example), given=answer) for example, answer in pairs]
    counts = answers if world.first or not together else []
    statistics = {name: count(counts) for name, count in counting.items()}
    return {
        name: _of_all(values.cpu(), world) if chosen[name].joined else world.all_reduce(values.to(device))
        for name, values in statistics.items()
    }


def evaluate(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    score: Score,
    chosen: Mapping[str, Measure],
    device: torch.device,
    world: World = ALONE,
) -> dict[str, float]:
    """The metrics of `model` over all micro-batches; each is the value of its summed statistics."""
    sums = summed(model, batches, score, chosen, device, world)
    return {name: chosen[name].value(total) for name, total in sums.items()}


def summed(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    score: Score,
    chosen: Mapping[str, Measure],
    device: torch.device,
    world: World = ALONE,
    passes: InPasses = in_one,
) -> dict[str, torch.Tensor]:
    """The statistics of each metric of predictions, summed or joined over all micro-batches of all processes."""
    counting = {name: measure.statistics for name, measure in chosen.items() if measure.statistics is not None}
    if not counting:
        return {}

    def statistics(batch: Batch) -> dict[str, torch.Tensor]:
        predictions = score(model, model_inputs(batch, device))
        counted = {name: count(predictions) for name, count in counting.items()}
        if batch["rows"]:
            return counted
        # padding: this process has fewer micro-batches than others, and all must make as many passes
        return {n: values[:0] if chosen[n].joined else torch.zeros_like(values) for n, values in counted.items()}

    pieces: dict[str, list[torch.Tensor]] = {name: [] for name in counting}
    with evaluating(model):
        for batch in batches:
            for counted in passes(batch, statistics):
                for name, values in counted.items():
                    if chosen[name].joined:
                        pieces[name].append(values.cpu())
                    else:
                        pieces[name] = [pieces[name][0] + values if pieces[name] else values]
    return {
        name: _of_all(torch.cat(parts), world) if chosen[name].joined else world.all_reduce(parts[0])
        for name, parts in pieces.items()
        if parts
    }


def _of_all(rows: torch.Tensor, world: World) -> torch.Tensor:
    """The rows (n, K) of all processes, those of the first one first."""
    gathered: list[torch.Tensor] = [
        rows.new_tensor(values).view(-1, rows.shape[1]) for values in world.all_gather(rows.tolist())
    ]
    return torch.cat(gathered)


def tables(chosen: Mapping[str, Measure], sums: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the metrics have to say beside their numbers, by title."""
    by_title: dict[str, Any] = {}
    for name, total in sums.items():
        details = chosen[name].details
        by_title |= details(total) if details is not None else {}
    return by_title


def remarks(chosen: Mapping[str, Measure], sums: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """What is to be said of the metrics' numbers, by metric."""
    said = {name: chosen[name].remark(total) for name, total in sums.items()}
    return {name: words for name, words in said.items() if words}
