"""Ask a fine-tuned model. The run's own tokenizer and chat template are used, so it sees what it saw in training."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode, UsageError
from fttool.rundir.saved import model_folder, saved_model, template_variables
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool generate runs/quickstart "What does math.sqrt do?"
  fttool generate runs/quickstart < questions.txt    one question per line
  fttool generate runs/quickstart --system "Answer in one sentence." "What is a deque?"
  fttool generate runs/tools --tools tools.json "Is it cold in Oslo?"
  fttool generate runs/thinker --variable enable_thinking=false "What is a deque?"

next: fttool compare runs/*
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, or any model folder")
    parser.add_argument("question", nargs="?", help="default: one per line from standard input")
    parser.add_argument("--system", help="a system message before the question")
    parser.add_argument("--tools", type=Path, metavar="FILE", help="tools that may be called, as a JSON list in a file")
    parser.add_argument(
        "--variable",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the chat template, its value as JSON or text; default: those that all rows of the run had",
    )
    parser.add_argument("--max-tokens", type=int, default=256, metavar="N", help="longest answer (default 256)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 picks the likeliest token (default)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the Python code in the model's folder: read it first"
    )


def main(options: argparse.Namespace) -> int:
    """Print the answers."""
    model_folder(options.run)
    if not 0 <= options.temperature < math.inf or options.max_tokens < 1:
        raise UsageError("--temperature must be a number of at least 0, --max-tokens at least 1")
    questions = _questions(options.question)
    variables = _variables(options)
    with saved_model(options.run, "text", trust_remote_code=options.trust_remote_code) as (tokenizer, model):
        import torch

        if variables and not tokenizer.chat_template:
            raise UsageError("the model has no chat template, which could write tools or heed variables")
        torch.manual_seed(options.seed)
        for question in questions:
            show(*_answer(model, tokenizer, question, variables, options).split("\n"))
    return ExitCode.OK


def _questions(given: str | None) -> list[str]:
    if given is None and sys.stdin.isatty():
        raise UsageError("no question", hint='fttool generate RUN "question"')
    lines = [given] if given is not None else [line.strip() for line in sys.stdin]
    questions = [line for line in lines if line.strip()]
    if not questions:
        raise UsageError("the question is empty", hint='fttool generate RUN "question"')
    return questions


def _variables(options: argparse.Namespace) -> dict[str, Any]:
    """What the chat template gets beside the turns: variables of the run's rows or of the command line, and tools."""
    given: dict[str, Any] = {}
    for one in options.variable:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--variable {one} is not NAME=VALUE", hint="--variable enable_thinking=false")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    learned = template_variables(options.run)
    if kept := {name: value for name, value in learned.items() if name not in given}:
        shown = " ".join(f"{name}={json.dumps(value)}" for name, value in kept.items())
        show(f"as in all rows of the run: {shown}; --variable changes it", error=True)
    if options.tools is None:
        return {**learned, **given}
    try:
        tools = json.loads(options.tools.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise UsageError(f"cannot read the tools of '{options.tools}': {wrong}", hint="a JSON list of tools") from None
    if not isinstance(tools, list) or not tools:
        raise UsageError(f"'{options.tools}' is not a list of tools", hint='[{"type": "function", "function": {…}}]')
    return {**learned, **given, "tools": tools}


def _answer(model: Any, tokenizer: Any, question: str, variables: dict[str, Any], options: argparse.Namespace) -> str:
    from fttool.contracts.rows import Example
    from fttool.rows.checks.abilities import Abilities
    from fttool.rows.prompts import prompt_ids
    from fttool.training.evaluation import generate

    example = Example(origin="the question", prompt=question)
    if tokenizer.chat_template:
        turns = [{"role": "system", "content": options.system}] if options.system else []
        turns.append({"role": "user", "content": question})
        example = Example(origin="the question", messages=tuple(turns), completion_from=len(turns), template=variables)
        for remark in Abilities(tokenizer).check(example):
            show(f"note: asked {remark}", error=True)
    ids = prompt_ids(example, tokenizer)
    longest = min(options.max_tokens, _room(model, len(ids)))
    if longest < options.max_tokens:
        show(f"the model's positions leave {longest} tokens for the answer", error=True)
    return generate(model, tokenizer, ids, longest, temperature=options.temperature)


def _room(model: Any, asked: int) -> int | float:
    """Tokens that an answer may have: beyond its positions a model talks nonsense."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        return math.inf
    if asked >= positions:
        message = f"the question has {asked} tokens, the model's positions end at {positions}"
        raise UsageError(message, hint="ask something shorter")
    return positions - asked
