"""Ask a fine-tuned model. The run's own tokenizer and chat template are used, so it sees what it saw in training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fttool.errors import ExitCode, ModelError, UsageError, gist

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


def main(options: argparse.Namespace) -> int:
    """Print the answers."""
    folder: Path = options.run / "model" if (options.run / "model").is_dir() else options.run
    if not (folder / "config.json").is_file():
        raise UsageError(f"there is no model in '{options.run}'", hint="name a finished run's directory")
    if options.temperature < 0 or options.max_tokens < 1:
        raise UsageError("--temperature must be at least 0, --max-tokens at least 1")
    if options.question is None and sys.stdin.isatty():
        raise UsageError("no question", hint='fttool generate RUN "question"')

    from fttool.environment import stay_local

    stay_local()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fttool.environment import device

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except Exception as fault:  # transformers raises a dozen kinds for a bad folder
        hint = "it needs config.json, *.safetensors and the tokenizer's files"
        raise ModelError(f"cannot load the model of '{folder}': {gist(fault)}", hint=hint) from fault
    model.to(device()).eval()
    torch.manual_seed(options.seed)
    questions = [options.question] if options.question is not None else [line.strip() for line in sys.stdin]
    for question in filter(None, questions):
        print(_answer(model, tokenizer, question, options), flush=True)
    return ExitCode.OK


def _answer(model: Any, tokenizer: Any, question: str, options: argparse.Namespace) -> str:
    from fttool.evaluation import generate

    if tokenizer.chat_template:
        turns = [{"role": "system", "content": options.system}] if options.system else []
        turns.append({"role": "user", "content": question})
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
    else:
        ids = tokenizer(question)["input_ids"]
    return generate(model, tokenizer, ids, options.max_tokens, temperature=options.temperature)
