"""Ask a run's model, or any other. Its own tokenizer and chat template are used: it sees what it saw in training."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.errors import ExitCode, UsageError
from fttool.rundir.saved import TEXT, refuse_no_model, saved_model, template_variables
from fttool.visible import show

if TYPE_CHECKING:
    from fttool.training.answering import Answering

WINDOW = 4
"""Times as many questions are looked at together as are answered at once: their answers come when all are there."""
EXAMPLES = """\
examples:
  fttool generate runs/quickstart "What does math.sqrt do?"
  fttool generate builtin:tiny-chat "What does math.sqrt do?"       any model source: what did it say before?
  fttool generate runs/quickstart < questions.txt    one question per line
  fttool generate runs/quickstart --system "Answer in one sentence." "What is a deque?"
  fttool generate runs/tools --tools tools.json "Is it cold in Oslo?"
  fttool generate runs/thinker --variable enable_thinking=false "What is a deque?"

next: fttool compare runs/*
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run directory, a model's folder, or a source: builtin:…"
    )
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
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="longest answer, in tokens (default 256)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="of the sampling; 0: greedy (default)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=8,
        metavar="N",
        help="questions answered together, by length (default 8); one by one where the model cannot take padding",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the Python code in the model's folder: read it first"
    )


def main(options: argparse.Namespace) -> int:
    """Print the answers."""
    refuse_no_model(options.run)
    for answer in answers(options, _questions(options.question)):
        show(*answer.split("\n"))
    return ExitCode.OK


def answers(options: argparse.Namespace, questions: Sequence[str]) -> Iterator[str]:
    """Ask the model; `options` are those of the command line. The answers come in the order of the questions."""
    if not 0 <= options.temperature < math.inf or min(options.max_tokens, options.at_once) < 1:
        raise UsageError("--temperature must be a number of at least 0, --max-tokens and --at-once at least 1")
    with saved_model(options.run, TEXT, trust_remote_code=options.trust_remote_code) as (tokenizer, model):
        import torch

        torch.manual_seed(options.seed)
        yield from _answers(model, tokenizer, questions, options)


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
    for assignment in options.variable:
        name, equals, value = assignment.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--variable {assignment} is not NAME=VALUE", hint="--variable enable_thinking=false")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    learned = template_variables(options.run)
    if used := {name: value for name, value in learned.items() if name not in given}:
        shown = " ".join(f"{name}={json.dumps(value)}" for name, value in used.items())
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


def _prompt(tokenizer: Any, question: str, variables: dict[str, Any], options: argparse.Namespace) -> list[int]:
    """The tokens that the model is asked with."""
    from fttool.contracts.rows import Example
    from fttool.rows.checks.abilities import Abilities
    from fttool.rows.prompts import prompt_ids

    example = Example(origin="the question", prompt=question)
    if tokenizer.chat_template:
        turns = [{"role": "system", "content": options.system}] if options.system else []
        turns.append({"role": "user", "content": question})
        example = Example(origin="the question", messages=tuple(turns), completion_from=len(turns), template=variables)
        for remark in Abilities(tokenizer).check(example):
            show(f"note: asked {remark}", error=True)
    return prompt_ids(example, tokenizer)


def _check_room(answering: Answering, prompt: Sequence[int], longest: int) -> None:
    """Say where positions cut the answer short; raise where they leave nothing for one."""
    room = answering.room(prompt, longest)
    if not room:
        message = f"the question has {len(prompt)} tokens, and the model has positions for {answering.positions}"
        raise UsageError(message, hint="ask something shorter")
    if room < longest:
        show(f"the model has positions for {room} tokens of the answer", error=True)


def _answers(model: Any, tokenizer: Any, questions: Sequence[str], options: argparse.Namespace) -> Iterator[str]:
    """Answers in the order of the questions; a few times as many as are answered at once are sorted by length."""
    from fttool.training.answering import Answering

    variables, positions = _variables(options), getattr(model.config.get_text_config(), "max_position_embeddings", None)
    answering = Answering(model=model, tokenizer=tokenizer, at_once=options.at_once, positions=positions)
    if variables and not tokenizer.chat_template:
        raise UsageError("tools and variables need a chat template, and the model has none")
    for start in range(0, len(questions), WINDOW * options.at_once):
        window = questions[start : start + WINDOW * options.at_once]
        prompts = [_prompt(tokenizer, question, variables, options) for question in window]
        for prompt in prompts:
            _check_room(answering, prompt, options.max_tokens)
        yield from answering.ask(prompts, options.max_tokens, options.temperature)
