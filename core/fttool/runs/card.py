"""The model card: what a model was made from, how, and how well. It lies in the model's folder, as a hub wants it.

It goes wherever the model goes, so it has names and hashes of files, and neither paths of the machine nor text of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from fttool.errors import counted
from fttool.recipe.toml import format_value
from fttool.runs.stages.loop import Prepared
from fttool.visible import visible

TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
}
"""The hub's names of tasks, by how the names of transformers' classes end."""
HASH = 12
"""Characters of a hash that tell files apart; `lock.json` has all of it."""

ASK_A_CHAT = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = "."  # this folder; on a hub owner/name
tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL)
turns = [{{"role": "user", "content": "What is a deque?"}}]
form = {{"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True{variables}}}
asked = tokenizer.apply_chat_template(turns, **form)
answer = model.generate(**asked, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))
"""
ASK = """\
from transformers import pipeline

MODEL = "."  # this folder; on a hub owner/name
print(pipeline("{task}", model=MODEL{options})("A text."))
"""
OPTIONS = {
    "text-generation": ", max_new_tokens=64, do_sample=False",
    "text-classification": ", top_k=None",
    "token-classification": ', aggregation_strategy="simple"',
}
"""Of transformers' pipelines."""


def card(prepared: Prepared) -> str:
    """The whole card, as Markdown with the metadata that a hub reads."""
    progress = prepared.trainer.job.progress
    task = task_of(type(prepared.model).__name__)
    origin = f"Fine-tuned with fttool: {counted(prepared.trainer.state.global_step, 'update')}"
    parts = [
        f"---\n{yaml.safe_dump(metadata(prepared, task), sort_keys=False, allow_unicode=True)}---",
        f"# {prepared.loaded.name}",
        f"{origin}, {counted(len(prepared.rows.train), 'row')}.",
        "## Use",
        f"```python\n{_snippet(prepared, task)}```",
        _template(prepared),
        "## Base model",
        _origin(prepared),
        "## Rows",
        _table(("rows", "for", "number", "hash"), _datasets(prepared.rows.sources)),
    ]
    if progress.latest:
        parts += ["## Evaluation", _table(("metric", "before", "after"), _changes(progress.before, progress.latest))]
        parts += [part for title, rows in progress.tables.items() for part in (f"### {title}", _cells(rows))]
    forgotten = [
        (dataset, *change)
        for dataset, after in progress.retention_latest.items()
        for change in _changes(progress.retention_before.get(dataset, {}), after)
    ]
    if forgotten:
        parts += ["## Forgetting", "On rows that represent what the model knew, and that it did not learn from:"]
        parts += [_table(("rows", "metric", "before", "after"), forgotten)]
    parts += ["## Recipe", _recipe(prepared)]
    parts += ["`recipe.resolved.toml` and `lock.json` of the run directory have all of it, to make the model again."]
    return visible("\n\n".join(parts)) + "\n"


def task_of(model_class: str) -> str | None:
    """The hub's name of what a model of this class does; None for one that it has no name for."""
    return next((task for ending, task in TASKS.items() if model_class.endswith(ending)), None)


def metadata(prepared: Prepared, task: str | None) -> dict[str, Any]:
    """What the hub reads at the head of a card."""
    hub = prepared.source.origin.get("hub")
    header = {
        "library_name": "transformers",
        "pipeline_tag": task,
        "base_model": hub,
        "base_model_relation": "finetune" if hub else None,
        "license": _licence(prepared),
        "datasets": [rows.hub for _, rows in prepared.loaded.recipe.data.datasets() if rows.hub] or None,
        "metrics": sorted(prepared.trainer.job.progress.latest) or None,
        "tags": ["fttool", prepared.loaded.recipe.task.id()],
    }
    return {key: value for key, value in header.items() if value is not None}


def _licence(prepared: Prepared) -> str | None:
    """The licence that the base model's own card names, where it lies beside the weights."""
    folder = Path(prepared.source.origin.get("path", ""))
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        head: Any = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else None
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return None
    said = head.get("license") if isinstance(head, dict) else None
    return said if isinstance(said, str) else None


def _snippet(prepared: Prepared, task: str | None) -> str:
    variables = prepared.rows.template_variables
    if task == "text-generation" and prepared.tokenizer.chat_template:
        return ASK_A_CHAT.format(variables="".join(f', "{name}": {value!r}' for name, value in variables.items()))
    return ASK.format(task=task, options=OPTIONS.get(task or "", ""))


def _template(prepared: Prepared) -> str:
    """What is to be known of the form in which the model is asked."""
    if prepared.parts.labels:
        names = ", ".join(f"`{name}`" for name in prepared.parts.labels)
        longest = f"{prepared.loaded.recipe.batching.max_length:,} tokens of a text"
        return f"Its classes: {names}. In training it has read at most {longest}."
    if not prepared.tokenizer.chat_template:
        return "It reads plain text: its tokenizer has no chat template."
    given = prepared.loaded.recipe.model.chat_template
    whose = f"that of the recipe (`{PurePath(given).name}`)" if given else "that of the base model's tokenizer"
    variables = prepared.rows.template_variables
    with_them = f" All rows had {', '.join(f'`{k} = {v!r}`' for k, v in variables.items())}." if variables else ""
    return f"The chat template in this folder is {whose}, and the one it was trained with: ask with it.{with_them}"


def _origin(prepared: Prepared) -> str:
    """Where the weights came from, by names and hashes."""
    places = ("path", "config")
    origin = {k: PurePath(value).name if k in places else value for k, value in prepared.source.origin.items()}
    licence = _licence(prepared)
    said = f"licence: {licence}" if licence else "licence: that of the base model, whose files here do not name it"
    return "\n".join([*(f"- {key}: `{_short(value)}`" for key, value in origin.items()), f"- {said}"])


def _short(value: str) -> str:
    kind, colon, digest = value.partition(":")
    return f"{kind}:{digest[:HASH]}" if colon and kind == "sha256" else value


def _datasets(sources: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    """A line for each dataset: its name without a path, what it is for, how many rows, and the hash of its content."""
    for dataset_source in sources:
        source = str(dataset_source["source"])
        name = source if source.startswith("hub:") else PurePath(source).name
        digest = str(dataset_source.get("sha256", dataset_source.get("fingerprint", "")))[:HASH]
        yield (
            f"`{name}`",
            str(dataset_source["table"]).split(".")[1],
            f"{dataset_source['rows']:,}",
            f"`{digest}`" if digest else "",
        )


def _changes(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, str, str]]:
    return [(name, _number(before.get(name, math.nan)), _number(value)) for name, value in after.items()]


def _number(value: Any) -> str:
    return ("–" if math.isnan(value) else f"{value:.4f}") if isinstance(value, float) else str(value)


def _cells(rows: Sequence[Sequence[Any]]) -> str:
    """A metric's own table, whose first row is its head."""
    head, *body = [[_number(cell) for cell in row] for row in rows]
    return _table(head, body)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def _recipe(prepared: Prepared) -> str:
    """The recipe in short: how long, how large, and each strategy with what is not its default."""
    recipe, length = prepared.loaded.recipe, prepared.length
    size = f"{counted(length.total_steps, 'update')} of {counted(recipe.global_batch, 'sequence')}"
    lines = [
        f"- {size}, seed {recipe.run.seed}",
        f"- at most {recipe.batching.max_length:,} tokens a sequence; {prepared.numerics.reason}",
    ]
    for place, strategy in recipe.strategies():
        if place[0] in ("model", "evaluation") or place[-1] == "format":
            continue
        given = strategy.model_dump(mode="json", exclude_defaults=True)
        given.pop("name", None)
        options = f" `{format_value(given)}`" if given else ""
        lines.append(f"- {'.'.join(map(str, place))}: `{strategy.id()}`{options}")
    return "\n".join(lines)
