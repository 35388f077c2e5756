"""Ask a fine-tuned model. The run's own tokenizer and chat template are used, so it sees what it saw in training."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode, UsageError
from fttool.runs.saved import model_folder, saved_model
from fttool.visible import show

EXAMPLES = """\
examples:
  fttool generate runs/quickstart "What does math.sqrt do?"
  fttool generate runs/quickstart < questions.txt    one question per line
  fttool generate runs/quickstart --system "Answer in one sentence." "What is a deque?"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, or any model folder")
    parser.add_argument("question", nargs="?", help="default: one per line from standard input")
    parser.add_argument("--system", help="a system message before the question")
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
    with saved_model(options.run, "text", trust_remote_code=options.trust_remote_code) as (tokenizer, model):
        import torch

        torch.manual_seed(options.seed)
        for question in questions:
            show(_answer(model, tokenizer, question, options))
    return ExitCode.OK


def _questions(given: str | None) -> list[str]:
    if given is None and sys.stdin.isatty():
        raise UsageError("no question", hint='fttool generate RUN "question"')
    lines = [given] if given is not None else [line.strip() for line in sys.stdin]
    questions = [line for line in lines if line.strip()]
    if not questions:
        raise UsageError("the question is empty", hint='fttool generate RUN "question"')
    return questions


def _answer(model: Any, tokenizer: Any, question: str, options: argparse.Namespace) -> str:
    from fttool.rows.templates import chat_ids
    from fttool.training.evaluation import generate

    if tokenizer.chat_template:
        turns = [{"role": "system", "content": options.system}] if options.system else []
        turns.append({"role": "user", "content": question})
        ids = chat_ids(tokenizer, turns, add_generation_prompt=True)
    else:
        ids = tokenizer(question)["input_ids"]
    longest = min(options.max_tokens, _room(model, len(ids)))
    if longest < options.max_tokens:
        print(f"the model's positions leave {longest} tokens for the answer", file=sys.stderr)
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
