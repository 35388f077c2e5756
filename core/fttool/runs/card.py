"""The model card: what a model was made from, how, and how well."""

from __future__ import annotations

import math

from fttool.runs.stages.loop import Prepared


def card(prepared: Prepared) -> str:
    """The model card: what it was made from, how, and how well."""
    recipe, progress = prepared.loaded.recipe, prepared.trainer.job.progress
    origin = "\n".join(f"- {key}: `{value}`" for key, value in prepared.source.origin.items())
    metrics = "\n".join(
        f"| {name} | {progress.before.get(name, math.nan):.4f} | {value:.4f} |"
        for name, value in progress.latest.items()
    )
    forgotten = "".join(
        f"| {dataset} | {name} | {progress.retention_before.get(dataset, {}).get(name, math.nan):.4f} | {value:.4f} |\n"
        for dataset, numbers in progress.retention_latest.items()
        for name, value in numbers.items()
    )
    retention = (
        "## Retention\n\nOn rows that stand for what the model knew, and that it did not learn from:\n\n"
        f"| rows | metric | before | after |\n|---|---|---|---|\n{forgotten}\n"
    )
    chosen = "\n".join(f"- {'.'.join(map(str, place))}: `{one.id()}`" for place, one in recipe.strategies())
    return (
        f"---\nlibrary_name: transformers\ntags: [fttool]\n---\n\n# {prepared.loaded.name}\n\n"
        f"Fine-tuned with fttool for {prepared.trainer.state.global_step} updates; `recipe.resolved.toml` and "
        f"`lock.json` beside this file say how to make it again.\n\n## Base model\n\n{origin}\n\n"
        f"## Evaluation\n\n| metric | before | after |\n|---|---|---|\n{metrics}\n\n"
        f"{retention if forgotten else ''}## Strategies\n\n{chosen}\n"
    )
