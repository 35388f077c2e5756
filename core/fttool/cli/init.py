"""Write a commented recipe: for supervised fine-tuning of a chat model, or for a classifier."""

from __future__ import annotations

import argparse
from pathlib import Path

import tomli_w

from fttool.errors import ExitCode, UsageError
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool init my.toml
  fttool init my.toml --model meta-llama/Llama-3.1-8B-Instruct --data chats.jsonl
  fttool init my.toml --task classification --model answerdotai/ModernBERT-base --data reviews.csv

next: fttool validate my.toml
"""

RECIPE = """\
recipe = 1                        # version of the recipe format

[run]
seed = 17
epochs = 1                        # passes over the rows; or max_steps = …
micro_batch = 2                   # rows per forward pass; "auto": as many as fit
global_batch = 16                 # rows per update, by accumulation

[model]
source = {model}
# chat_template = "chatml"        # a base model has no template: say which, or name a Jinja file
# gradient_checkpointing = true   # a third more compute for far less memory

[data]
eval_share = 0.05                 # of the rows, set aside to measure on

[[data.train]]
path = {data}
format = "messages"               # {{"messages": [{{"role": "user", "content": "…"}}, {{"role": "assistant", …}}]}}

# [[data.retention]]              # rows that stand for what the model knew: measured, to see how much is forgotten
# path = "old-chats.jsonl"

[[filters]]
name = "exact-duplicates"         # drops a conversation that was there before

[masking]
name = "assistant"                # learn what the assistant says, not what it is asked

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
name = "exact-duplicates"         # drops a text that was there before
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

RECIPES = {"sft": RECIPE, "classification": CLASSIFICATION}
"""The recipe for each task."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipe.toml"), help="default: recipe.toml")
    parser.add_argument("--model", default="builtin:tiny-chat", help="hub id, folder or GGUF file")
    parser.add_argument("--data", default="rows.jsonl", help="file of conversations, or of rows with labels")
    parser.add_argument("--task", choices=RECIPES, default="sft", help="default: sft")


def main(options: argparse.Namespace) -> int:
    """Write the file; an existing one is never overwritten."""
    path: Path = options.recipe
    if path.exists():
        raise UsageError(f"'{path}' exists; it is never overwritten", hint="name another file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder '{path.parent}'")
    path.write_text(recipe(options.model, options.data, options.task), encoding="utf-8")
    show(f"wrote {path}", f"next: fttool validate {path}, then fttool preview {path}, then fttool run {path}")
    return ExitCode.OK


def recipe(model: str, data: str, task: str = "sft") -> str:
    """The recipe's text; names are written as TOML strings, whatever they hold."""
    return RECIPES[task].format(model=_toml_string(model), data=_toml_string(data))


def _toml_string(text: str) -> str:
    return tomli_w.dumps({"x": text}).removeprefix("x = ").rstrip("\n")
