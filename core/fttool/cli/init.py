"""Write a commented recipe for rows: conversations, instructions, plain text, texts with classes, words with tags."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tomli_w

from fttool.contracts.strategy import Level
from fttool.errors import DataError, ExitCode, UsageError
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool init my.toml
  fttool init my.toml --model meta-llama/Llama-3.1-8B-Instruct --data chats.jsonl
  fttool init my.toml --data reviews.csv             chooses task and format by the rows in it
  fttool init my.toml --task classification --model answerdotai/ModernBERT-base --data reviews.csv

next: fttool validate my.toml
"""

RECIPE = """\
#:schema ./recipe.schema.json
recipe = 1                        # version of the recipe format

[run]
seed = 17
epochs = 1                        # passes over the rows; or max_steps = …
micro_batch = 2                   # rows per forward pass; "auto": as many as fit
global_batch = 16                 # rows per update, by accumulation

[model]
source = {model}
{template}# a base model has no template: say which, or name a Jinja file
# gradient_checkpointing = true   # a third more compute for far less memory

[data]
eval_share = 0.05                 # of the rows, set aside to measure on

[[data.train]]
path = {data}
format = {format}

# [[data.retention]]              # rows that represent what the model knew: measured, to see how much is forgotten
# path = "old-chats.jsonl"

[[filters]]
name = "exact-duplicates"         # drops conversations that occur again

[masking]
name = {masking}

[batching]
name = "bucketed"                 # rows of like length together; "packed" wastes least
max_length = 1024                 # tokens; longer rows are cut, and counted

[optimizer]
name = "adamw"
lr = 2e-5                         # for full fine-tuning of billions of weights; small models want more
weight_decay = 0.0
max_grad_norm = 1.0

[schedule]
name = "cosine"                   # or "wsd", "linear", "constant"
warmup = 0.06                     # a share of the run below 1, updates from 1 on

# [[regularizers]]
# name = "l2-init"                # pull every weight towards where it started, so that less is forgotten
# strength = 0.01

[precision]
name = "auto"                     # bf16 where the hardware has it, else fp32

[checkpoints]
every = 200                       # updates
keep = 2

[evaluation]
every = 200                       # updates; and always before the first and after the last
metrics = ["loss", "perplexity", "token-accuracy"]
"""


CLASSIFICATION = """\
#:schema ./recipe.schema.json
recipe = 1                        # version of the recipe format

[task]
name = "classification"           # a class for each row, by a new head on the model
multi_label = false               # true: a row may have several classes, or none
class_weights = "none"            # "balanced": a rare class counts as much as a common one

[run]
seed = 17
epochs = 3                        # passes over the rows; or max_steps = …
micro_batch = 16                  # rows per forward pass; "auto": as many as fit
global_batch = 16                 # rows per update, by accumulation

[model]
source = {model}

[data]
eval_share = 0.1                  # of the rows, set aside to measure on

[[data.train]]
path = {data}
format = "labelled"               # {{"text": "…", "label": "…"}}; CSV with these columns; or a folder per label

[[filters]]
name = "exact-duplicates"         # drops texts that occur again
compare = "prompt"

[masking]
name = "label"                    # the class is learned, and none of the tokens

[batching]
name = "bucketed"                 # rows of like length together
max_length = 512                  # tokens; longer rows are cut, and counted

[freezing]
name = "full"                     # or "head-only": the model stays as it is, and runs once per row

[optimizer]
name = "adamw"
lr = 2e-5                         # up to 5e-5 for encoders such as BERT; 1e-3 and more for a head alone
weight_decay = 0.01
max_grad_norm = 1.0

[schedule]
name = "linear"
warmup = 0.1                      # a share of the run below 1, updates from 1 on

[precision]
name = "auto"                     # bf16 where the hardware has it, else fp32

[evaluation]
every = 100                       # updates; and always before the first and after the last
metrics = ["macro-f1", "accuracy", "loss"]
best = "macro-f1"                 # the best checkpoint becomes the final model
"""

TAGS = """\
#:schema ./recipe.schema.json
recipe = 1                        # version of the recipe format

[task]
name = "token-classification"     # a tag for each word, by a new head on the model

[run]
seed = 17
epochs = 3                        # passes over the rows; or max_steps = …
micro_batch = 16                  # rows per forward pass; "auto": as many as fit
global_batch = 16                 # rows per update, by accumulation

[model]
source = {model}

[data]
eval_share = 0.1                  # of the rows, set aside to measure on

[[data.train]]
path = {data}
format = "tagged"                 # {{"tokens": ["Anna", "sings"], "tags": ["B-PER", "O"]}}, or a CoNLL file

[optimizer]
name = "adamw"
lr = 2e-5                         # up to 5e-5 for encoders such as BERT
weight_decay = 0.01
max_grad_norm = 1.0

[schedule]
name = "linear"
warmup = 0.1                      # a share of the run below 1, updates from 1 on

[evaluation]
every = 100                       # updates; and always before the first and after the last
"""

# A recipe names what it uses, so this file of core alone knows built-in strategies; a test has the list of exceptions.
RECIPES = {"sft": RECIPE, "classification": CLASSIFICATION, "token-classification": TAGS}
"""The recipe for each task."""
LEVELS: dict[str, Level] = {"sft": "token", "classification": "row", "token-classification": "word"}
FIRST = 20
"""Rows that are looked at."""
FORMATS = {"messages": '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}]}'}
"""What is said beside a format that is not proposed by rows."""
MASKINGS = {
    "assistant": "learn what the assistant says, not what it is asked",
    "completion": "learn the completion, not the prompt",
    "all": "learn every token",
}


@dataclass(frozen=True)
class Proposal:
    """What the first rows of a file speak for."""

    task: str = "sft"
    format: str = "messages"
    masking: str = "assistant"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipe.toml"), help="default: recipe.toml")
    parser.add_argument("--model", default="builtin:tiny-chat", help="hub id, folder or GGUF file")
    parser.add_argument(
        "--data",
        default="rows.jsonl",
        help="file or folder of rows; if it exists, task and format are chosen by its rows",
    )
    parser.add_argument(
        "--task", choices=RECIPES, metavar="TASK", help=f"{', '.join(RECIPES)}; default: what the rows are for"
    )


def main(options: argparse.Namespace) -> int:
    """Write the file; an existing one is never overwritten."""
    path: Path = options.recipe
    if path.exists():
        raise UsageError(f"'{path}' exists; it is never overwritten", hint="name another file")
    if not path.parent.is_dir():
        raise UsageError(f"the folder '{path.parent}' does not exist")
    data = _from(path, options.data)
    proposed = proposal(path.parent / data, options.task)
    path.write_text(recipe(options.model, data, proposed), encoding="utf-8")
    completion = () if (path.parent / "recipe.schema.json").exists() else ("  fttool schema > recipe.schema.json",)
    show(f"wrote {path}: task {proposed.task}, format {proposed.format}")
    show(*(("for completion in an editor, beside it:", *completion) if completion else ()))
    show(f"next: fttool validate {path}, then fttool preview {path}, then fttool run {path}")
    return ExitCode.OK


def _from(path: Path, data: str) -> str:
    """The rows' path as a recipe there has it, relative to its folder; on the command line it is to the current one."""
    given = Path(data)
    if given.is_absolute() or (path.parent / given).exists() or not given.exists():
        return data
    return os.path.relpath(given, path.parent)


def proposal(data: Path, task: str | None) -> Proposal:
    """The task, format and masking for these rows, or of the task asked for; the usual ones where there are no rows.

    Raises `DataError` for a file that cannot be read, or whose rows no installed format takes.
    """
    tasks = [task] if task else list(RECIPES)
    if not data.exists():
        usual = {
            "classification": Proposal("classification", "labelled"),
            "token-classification": Proposal("token-classification", "tagged"),
        }
        return usual.get(task or "", Proposal())
    from fttool.plugins import Plugins
    from fttool.rows.files.source import read_rows
    from fttool.rows.format_detection import formats_that_read

    plugins = Plugins.discover()
    rows = [row for _, row in islice(read_rows(data), FIRST)]
    for candidate in tasks:
        for name, example in formats_that_read(plugins, rows, LEVELS[candidate]):
            answers = "assistant" if example.messages else "completion" if example.prompt else "all"
            return Proposal(candidate, name, answers)
    columns = ", ".join(map(repr, rows[0])) if rows else "no rows"
    hint = "`fttool plugins --family format` says what each reads, and how columns are named"
    raise DataError(f"no installed format reads these rows ({columns})", where=str(data), hint=hint)


def recipe(model: str, data: str, proposed: Proposal) -> str:
    """The recipe's text; names are written as TOML strings, whatever they hold."""
    said = {
        "format": (proposed.format, FORMATS.get(proposed.format, "")),
        "masking": (proposed.masking, MASKINGS[proposed.masking]),
    }
    lines = {
        key: f"{_toml_string(name):<27}# {why}" if why else _toml_string(name) for key, (name, why) in said.items()
    }
    template = f"{'' if _lacks_template(model) else '# '}chat_template = {_toml_string('chatml')}".ljust(34)
    return RECIPES[proposed.task].format(model=_toml_string(model), data=_toml_string(data), template=template, **lines)


def _lacks_template(model: str) -> bool:
    """True for a folder whose tokenizer has no chat template: a base model's."""
    folder = Path(model)
    if not (folder / "tokenizer_config.json").is_file() or (folder / "chat_template.jinja").is_file():
        return False
    try:
        return "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _toml_string(text: str) -> str:
    return tomli_w.dumps({"x": text}).removeprefix("x = ").rstrip("\n")
