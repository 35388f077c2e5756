"""A folder in which the commands of the docs can be run as they stand: the recipes, rows and runs that they speak of.

All of them are tiny, and most are one run under several names.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tomli_w import dumps

from fttool.cli import main
from fttool.rows.chat import CHATML
from fttool.testing import tiny_model, tiny_tokenizer

from ..encoder import save_encoder
from ..rows import write_rows

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    + CHATML
    + "{% if add_generation_prompt and enable_thinking is defined %}{{ '<think>-</think>' }}{% endif %}"
)
QUICK: dict[str, Any] = {"micro_batch": 2, "log_every": 50}
ALIKE = {
    "long": ("wsd",),
    "my": ("quickstart", "tools", "thinker", "plain", "replay", "a", "b", "wsd/until-250"),
    "spam": (),
    "nli": (),
    "names": (),
}
"""What a run is called, and what else."""


def build(folder: Path) -> None:
    """Fill the folder; it must be the current one, so that relative paths in what it holds lead into it."""
    _write_rows(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tiny_model().save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    save_encoder(folder / "encoder")
    recipes = {
        "long": _long(),
        "my": _chat(),
        "spam": _classes("mails.csv"),
        "nli": _classes("pairs.csv", {"name": "labelled", "second": "other"}),
        "names": {**_classes("tags.jsonl", "tagged"), "task": "token-classification"},
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.toml").write_text(dumps(recipe), encoding="utf-8")
        assert main(["run", f"{name}.toml", "-q"]) == 0, name
        for other in ALIKE[name]:
            shutil.copytree(folder / "runs" / name, folder / "runs" / other)
    assert main(["recipes", "copy", "quickstart"]) == 0
    sharded = {**_chat(), "sharding": {"name": "zero", "processes": 2}}
    (folder / "sharded.toml").write_text(dumps(sharded), encoding="utf-8")


def _write_rows(folder: Path) -> None:
    for name, numbers in {"chats": range(12), "old": range(20, 26), "kept": range(30, 36)}.items():
        talks = [
            [{"role": "user", "content": f"Is {n} odd?"}, {"role": "assistant", "content": "Yes." if n % 2 else "No."}]
            for n in numbers
        ]
        write_rows(folder / f"{name}.jsonl", ({"messages": talk} for talk in talks))
    (folder / "reviews.csv").write_text("text,label\n" + "a b c,good\nx y z,bad\n" * 6)
    (folder / "mails.csv").write_text("text,label\n" + "a b c,spam\nx y z,ham\n" * 6)
    (folder / "pairs.csv").write_text("text,other,label\n" + "a b,c,entailment\nx,y z,neutral\n" * 6)
    tagged = json.dumps({"tokens": ["a", "b"], "tags": ["B-PER", "O"]})
    (folder / "tags.jsonl").write_text(f"{tagged}\n" * 6)
    (folder / "questions.txt").write_text("What is a deque?\nWhat is a heap?\n")
    tool = {"type": "function", "function": {"name": "weather", "description": "Outside.", "parameters": {}}}
    (folder / "tools.json").write_text(json.dumps([tool]))


def _chat() -> dict[str, Any]:
    return {
        "recipe": 1,
        "run": {**QUICK, "max_steps": 20},
        "model": {"source": "tiny"},
        "data": {
            "eval_share": 0.2,
            "train": [{"path": "chats.jsonl", "format": "messages"}],
            "general": [{"path": "old.jsonl"}],
            "retention": [{"path": "kept.jsonl"}],
        },
        "schedule": {"name": "wsd", "warmup": 1, "decay": 2},
        "regularizers": [{"name": "ewc", "strength": 1, "examples": 2}],
        "checkpoints": {"every": 10},
        "evaluation": {"samples": 1, "sample_tokens": 4},
        "precision": {"name": "fp32"},
    }


def _long() -> dict[str, Any]:
    chat = _chat()
    del chat["regularizers"], chat["data"]["general"], chat["data"]["retention"], chat["data"]["eval_share"]
    chat["run"] |= {"max_steps": 302, "log_every": 300, "micro_batch": 1, "global_batch": 1}
    return {**chat, "schedule": {"name": "wsd", "warmup": 1, "decay": 2}, "checkpoints": {"every": 50, "keep": 9}}


def _classes(rows: str, read_as: Any = "labelled") -> dict[str, Any]:
    return {
        "recipe": 1,
        "run": {**QUICK, "max_steps": 2},
        "task": "classification",
        "model": {"source": "encoder"},
        "data": {"train": [{"path": rows, "format": read_as}]},
        "precision": {"name": "fp32"},
    }
