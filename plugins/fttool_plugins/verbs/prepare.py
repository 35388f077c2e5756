"""Prepare the rows of a recipe, so that runs of it begin at once: before the GPUs are paid for, say.

The rows are read, filtered and made into tokens as a run does it, and kept where it looks for them. Whatever they are
made of has changed since, the next run prepares them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from fttool.api import ExitCode, UsageError, show
from fttool.verbs import add_recipe, kept_rows_folder, load_recipe, prepared_rows, verb_parser

EXAMPLES = """\
examples:
  fttool prepare my.toml
  fttool prepare my.toml --set 'data.cache="prepared"'      keep them in a folder beside the recipe

next: fttool run my.toml; fttool cache lists what is kept
"""


def main(words: Sequence[str]) -> int:
    """Prepare the rows."""
    parser = verb_parser("prepare", __doc__, EXAMPLES)
    add_recipe(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    loaded = load_recipe(options)
    folder = kept_rows_folder(loaded)
    if folder is None:
        message = "rows are not kept: data.cache is false, or there is no home directory to keep them in"
        raise UsageError(message, hint="add --set data.cache=true, or a folder: --set 'data.cache=\"prepared\"'")
    rows = prepared_rows(loaded, quiet=options.quiet or options.json)
    made = {
        "folder": str(folder),
        "train_rows": len(rows.train),
        "train_tokens": len(rows.train.tokens),
        "eval_rows": len(rows.eval),
        "dropped_rows": dict(rows.dropped),
        "notices": rows.notices,
    }
    if options.json:
        show(json.dumps(made, ensure_ascii=False))
        return ExitCode.OK
    for notice in rows.notices:
        show(f"note    {notice}", error=True)
    for reason, count in rows.dropped.items():
        show(f"dropped {count:,}  {reason}")
    show(f"train   {len(rows.train):,} rows  {len(rows.train.tokens):,} tokens")
    show(f"eval    {len(rows.eval):,} rows  {len(rows.eval.tokens):,} tokens")
    show(f"kept in {folder}")
    return ExitCode.OK
