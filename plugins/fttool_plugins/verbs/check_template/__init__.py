"""Compare what a run was trained on with what a server, or plain transformers, makes of the same rows: tokens and loss.

A template that a server writes otherwise, a second BOS or a system turn that is left out make a model answer a prompt
that it has never seen, and nothing says so. Nor does anything say that other weights are served than the run's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fttool.api import Encoded, ExitCode, UsageError, show, visible_json
from fttool.verbs import load_run, prepared_rows, row_encoder, row_tokenizer, saved_model, verb_parser

if TYPE_CHECKING:
    from fttool_plugins.verbs.check_template.losses import Losses
    from fttool_plugins.verbs.check_template.others import Other

EXAMPLES = """\
examples:
  fttool check-template runs/my --against http://127.0.0.1:8080     a server: llama.cpp's, vLLM's and their like
  fttool check-template runs/my --against runs/my/model             plain transformers, as others load the model
  fttool check-template runs/my --against model.gguf                what transformers reads of a GGUF file
  fttool check-template runs/my --against URL --rows 200 --json
  fttool check-template runs/my --against URL --loss-tokens 0       tokens only; the run's model is not loaded

Of each row two prompts are asked for: that of its last answer, and that of a further question behind it, in which the
answer ends as a server writes it. Training's tokens are those of the run's own rows. Does it end an answer at the
token with which training ends one? It is made to answer that token, and says why it stops.

Then the mean loss of the first learned tokens of the evaluation rows (where there are none: of the rows that are
learned) is computed under the run's final model, and asked for there. By the coarser number format of the two they may
be 0.01 nats per token apart (float32, float16), 0.02 (bfloat16, 8 bits, unknown), 0.1 (6 and 5 bits), 0.2 (4 bits) or
0.5 (fewer). A vLLM server tells
log-probabilities of a prompt. llama.cpp's does not: it is asked once for each learned token, to answer that one.

Of a server /apply-template, /tokenize and /props are asked, and /completion or /v1/completions for one token at a
time. Nothing is sent anywhere but to that URL.

exit code: 0 where all is the same, 5 where something differs

Where something differs, start the server with the run's own template: llama-server --jinja --chat-template-file
runs/my/model/chat_template.jinja, or vllm serve --chat-template with the same file.

next: fttool generate runs/my "…"
"""


def main(words: Sequence[str]) -> int:
    """Print what differs."""
    options = _parser().parse_args(words)
    if options.rows < 1:
        raise UsageError("--rows must be at least 1")
    if options.loss_tokens < 0:
        raise UsageError("--loss-tokens must be at least 0", hint="0 compares tokens only")
    from fttool_plugins.verbs.check_template.comparing import compared, report
    from fttool_plugins.verbs.check_template.others import other

    run = load_run(options.run)
    asked = other(options.against, trust_remote_code=options.trust_remote_code)
    tokenizer = row_tokenizer(run)
    rows = prepared_rows(run, quiet=options.json)
    found = compared(rows.sampled[: options.rows], row_encoder(run, tokenizer), tokenizer, asked)
    if options.loss_tokens and run.recipe.task.learns == "token":
        found = replace(found, losses=_losses(options, rows.eval or rows.train, asked))
    if options.json:
        print(visible_json(json.dumps(found.as_data(), ensure_ascii=False, indent=1)))
    else:
        show(*report(found, asked.name))
    return ExitCode.OK if found.good else ExitCode.MODEL


def _losses(options: argparse.Namespace, rows: Iterable[Encoded], asked: Other) -> Losses | None:
    """None, with a note, where one of the two has no numbers."""
    from fttool_plugins.verbs.check_template.losses import compared_losses

    if not (options.run / "model" / "config.json").is_file():
        show(f"note: losses are not compared: '{options.run}' has no final model", error=True)
        return None
    with saved_model(options.run, "CausalLM", trust_remote_code=options.trust_remote_code) as (_, model):
        losses = compared_losses(rows, model, asked, options.loss_tokens)
    if losses is None:
        show(f"note: losses are not compared: {asked.name} tells no log-probabilities", error=True)
    return losses


def _parser() -> argparse.ArgumentParser:
    parser: Any = verb_parser("check-template", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="the directory of a run")
    parser.add_argument(
        "--against", required=True, metavar="URL|MODEL", help="a server, a model's folder, or a GGUF file"
    )
    parser.add_argument("--rows", type=int, default=50, metavar="N", help="rows that are compared (default 50)")
    parser.add_argument(
        "--loss-tokens", type=int, default=200, metavar="N", help="learned tokens whose loss is compared (default 200)"
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let the model's folder run Python code of its own"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser
