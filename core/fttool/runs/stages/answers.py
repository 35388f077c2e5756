"""What the model of a run answers to its evaluation prompts, as it is when it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fttool.contracts.rows import Example
from fttool.errors import counted
from fttool.rows.prompts import prompt_ids
from fttool.runs.stages.model import positions_of
from fttool.runs.stages.plan import WithPlan
from fttool.training.answering import Answering
from fttool.training.evaluation import evaluating

if TYPE_CHECKING:
    from fttool.training.progress import Progress


def answering(run: WithPlan) -> Answering:
    """Who asks the model."""
    return Answering(
        model=run.model,
        tokenizer=run.tokenizer,
        at_once=run.loaded.recipe.evaluation.generate.micro_batch,
        positions=positions_of(run.model),
    )


def answers(run: WithPlan, answering: Answering) -> list[str]:
    """The model's present answers to the first evaluation prompts."""
    settings, parts = run.loaded.recipe.evaluation, run.parts
    sampled = [row for row in run.rows.eval_examples if row.messages or row.prompt][: settings.samples]
    if parts.answer is not None:
        with evaluating(run.model):
            max_length = run.loaded.recipe.batching.max_length
            return [parts.answer(run.model, run.tokenizer, example, max_length) for example in sampled]
    return answering.ask([prompt_ids(example, run.tokenizer) for example in sampled], settings.sample_tokens)


def ask(
    run: WithPlan, answering: Answering, progress: Callable[[], Progress], examples: Sequence[Example]
) -> list[str]:
    """The model's present answers to evaluation prompts, noted with the time that they took."""
    settings, began, tokens = run.loaded.recipe.evaluation.generate, time.perf_counter(), answering.tokens
    run.watch.stage(f"answering {counted(len(examples), 'evaluation prompt')}")
    replies = answering.ask([prompt_ids(example, run.tokenizer) for example in examples], settings.max_tokens)
    counts, noted = [len(replies), answering.tokens - tokens], progress().answering
    if not run.loaded.recipe.sharding.sharded:  # each process has answered its share, and not all of them
        counts = run.world.all_reduce_sums(counts, run.device)
    for what, count in zip(("answers", "tokens"), counts, strict=True):
        noted[what] = noted.get(what, 0) + count
    noted["seconds"] = noted.get("seconds", 0.0) + time.perf_counter() - began
    noted["one_by_one"] = answering.alone or ""
    return replies
