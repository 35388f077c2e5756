"""Compare the tokens that a run was trained on with those that a server, or plain transformers, makes of the same rows.

A template that a server writes otherwise, a second BOS or a system turn that is left out make a model answer a prompt
that it has never seen, and nothing says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, UsageError, show, visible_json
from fttool.verbs import load_run, prepared_rows, row_encoder, row_tokenizer, verb_parser

EXAMPLES = """\
examples:
  fttool check-template runs/my --against http://127.0.0.1:8080     a server: llama.cpp's, vLLM's and their like
  fttool check-template runs/my --against runs/my/model             plain transformers, as others load the model
  fttool check-template runs/my --against model.gguf                what transformers reads of a GGUF file
  fttool check-template runs/my --against URL --rows 200 --json

Of each row two prompts are asked for: that of its last answer, and that of a further question behind it, in which the
answer ends as a server writes it. Training's tokens are those of the run's own rows. Of a server /apply-template and
/tokenize are asked, and /props for its end of text; nothing is generated. Nothing is sent anywhere but to that URL.

exit code: 0 where all tokens are the same, 5 where some differ

Where something differs, start the server with the run's own template: llama-server --jinja --chat-template-file
runs/my/model/chat_template.jinja, or vllm serve --chat-template with the same file.

next: fttool generate runs/my "…"
"""


def main(words: Sequence[str]) -> int:
    """Print what differs."""
    options = _parser().parse_args(words)
    if options.rows < 1:
        raise UsageError("--rows must be at least 1")
    from fttool_plugins.verbs.check_template.comparing import compared, report
    from fttool_plugins.verbs.check_template.others import other

    run = load_run(options.run)
    asked = other(options.against, trust_remote_code=options.trust_remote_code)
    tokenizer = row_tokenizer(run)
    rows = prepared_rows(run, quiet=options.json)
    found = compared(rows.sampled[: options.rows], row_encoder(run, tokenizer), tokenizer, asked)
    if options.json:
        print(visible_json(json.dumps(found.as_data(), ensure_ascii=False, indent=1)))
    else:
        show(*report(found, asked.name))
    return ExitCode.MODEL if found.differences else ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser: Any = verb_parser("check-template", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="the directory of a run")
    parser.add_argument(
        "--against", required=True, metavar="URL|MODEL", help="a server, a model's folder, or a GGUF file"
    )
    parser.add_argument("--rows", type=int, default=50, metavar="N", help="rows that are compared (default 50)")
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let the model's folder run a tokenizer of its own"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser
