"""Measure a model on rows that it does not learn from, exactly: statistics are summed over tokens, not over batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from fttool.contracts.recipe import Recipe
from fttool.contracts.task import Measure, MetricContext, Predictions
from fttool.training.passes import Batch, InPasses, in_one
from fttool.training.progress import Progress
from fttool.world import ALONE, World
from fttool.yielded import built, checked_statistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


Score = Callable[[Any, Mapping[str, Any]], Predictions]


def measures(recipe: Recipe, labels: tuple[str, ...] = ()) -> dict[str, Measure]:
    """The recipe's metrics by id, over the classes of these names where classes are learned."""
    context = MetricContext(labels=labels)
    return {metric.id(): checked_statistics(metric, built(metric, context)) for metric in recipe.evaluation.metrics}


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
    """The statistics of each metric, summed or joined over all micro-batches of all processes."""

    def statistics(batch: Batch) -> dict[str, torch.Tensor]:
        predictions = score(model, model_inputs(batch, device))
        counted = {name: measure.statistics(predictions) for name, measure in chosen.items()}
        if batch["rows"]:
            return counted
        # a blank: it does not count
        return {n: values[:0] if chosen[n].joined else torch.zeros_like(values) for n, values in counted.items()}

    found: dict[str, list[torch.Tensor]] = {name: [] for name in chosen}
    with evaluating(model):
        for batch in batches:
            for counted in passes(batch, statistics):
                for name, values in counted.items():
                    if chosen[name].joined:
                        found[name].append(values.cpu())
                    else:
                        found[name] = [found[name][0] + values if found[name] else values]
    return {
        name: _of_all(torch.cat(some), world) if chosen[name].joined else world.total(some[0])
        for name, some in found.items()
        if some
    }


def _of_all(rows: torch.Tensor, world: World) -> torch.Tensor:
    """The rows (n, K) of all processes, those of the first one first."""
    gathered: list[torch.Tensor] = [
        rows.new_tensor(some).view(-1, rows.shape[1]) for some in world.gather(rows.tolist())
    ]
    return torch.cat(gathered)


def tables(chosen: Mapping[str, Measure], sums: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the metrics have to say beside their numbers, by title."""
    found: dict[str, Any] = {}
    for name, total in sums.items():
        details = chosen[name].details
        found |= details(total) if details is not None else {}
    return found


def remarks(chosen: Mapping[str, Measure], sums: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """What is to be said of the metrics' numbers, by metric."""
    said = {name: chosen[name].remark(total) for name, total in sums.items()}
    return {name: words for name, words in said.items() if words}


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
) -> str:
    """The model's answer to a prompt in tokens; temperature 0 is greedy."""
    from transformers import GenerationConfig

    own: Any = model.generation_config
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else None,
        eos_token_id=own.eos_token_id if own is not None else tokenizer.eos_token_id,
        pad_token_id=pad_id,
    )
    with evaluating(model):
        prompt_1T = torch.tensor([list(ids)], device=model.device)
        output_1T: Any = model.generate(  # pyright: ignore[reportCallIssue]
            prompt_1T, attention_mask=torch.ones_like(prompt_1T), generation_config=settings
        )
    return str(tokenizer.decode(output_1T[0, len(ids) :], skip_special_tokens=True)).strip()
