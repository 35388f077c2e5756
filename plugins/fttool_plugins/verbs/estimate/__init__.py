"""Say what a run will take: operations, hours, memory and dollars.

Operations are counted from the rows' real lengths. How long they take is measured here, by a few real updates, or for
GPUs that are not here comes from published runs. Every figure is from–to, and says where it comes from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from fttool.api import ExitCode, Problem, RecipeError, UsageError, show
from fttool.verbs import Loaded, add_recipe, load_recipe, verb_parser
from fttool_plugins.verbs.counts import comma_separated, positive
from fttool_plugins.verbs.estimate.hardware import GPU, find_gpu
from fttool_plugins.verbs.estimate.price import amount, per_hour

EXAMPLES = """\
examples:
  fttool estimate my.toml                                 measured here
  fttool estimate my.toml --price 2.50                    and what it costs, at $2.50 per hour of a GPU
  fttool estimate my.toml --gpus h100:8,a100-80:8         on GPUs that are not here
  fttool estimate my.toml --gpus h100 --rows 10000 --row-tokens 1000
                                                          before there are rows
  fttool estimate my.toml --gpus h100 --token-price 3     beside an API at $3 per million tokens

GPUs: a100-40, a100-80, h100, h200, b200, mi300x, v100, l4, rtx4090; docs/cost.md has their sources

next: fttool run my.toml
"""


def main(words: Sequence[str]) -> int:
    """Count, find out how fast, and say what it takes."""
    options = _parser().parse_args(words)
    if (options.rows is None) != (options.row_tokens is None):
        raise UsageError("--rows and --row-tokens go together", hint="e.g. --rows 10000 --row-tokens 1000")
    if options.rows is not None and not options.gpus:
        raise UsageError("without rows nothing can be measured", hint="name GPUs: --gpus h100:8")
    gpus = [gpus_in(word) for word in options.gpus]
    loaded = load_recipe(options)
    _refuse_long_rows(loaded, options.row_tokens)

    from fttool_plugins.verbs.estimate.estimating import elsewhere, here
    from fttool_plugins.verbs.estimate.screen import as_json, screen

    result = elsewhere(loaded, gpus, options) if gpus else here(loaded, options)
    if options.json:
        print(json.dumps(as_json(result), indent=2, ensure_ascii=False))
    else:
        show(*screen(result))
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("estimate", __doc__, EXAMPLES)
    add_recipe(parser)
    parser.add_argument(
        "--gpus",
        type=comma_separated,
        default=[],
        metavar="GPU:N,…",
        help="estimate for these, without measuring; N is 1",
    )
    parser.add_argument(
        "--price", type=per_hour, metavar="USD", help="of an hour of one GPU, or of this machine: 2.50, or 1.50-3.50"
    )
    parser.add_argument("--token-price", type=amount, metavar="USD", help="of an API, per million training tokens")
    parser.add_argument("--rows", type=positive, metavar="N", help="of so many rows, instead of those of the recipe")
    parser.add_argument("--row-tokens", type=positive, metavar="N", help="tokens of each of them")
    parser.add_argument(
        "--learned", type=_share, default=1.0, metavar="SHARE", help="of their tokens that are learned; default: 1"
    )
    parser.add_argument("--updates", type=positive, default=5, metavar="N", help="that are measured; default: 5")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: above 0, at most 1")
    return share


def gpus_in(word: str) -> tuple[GPU, int]:
    """`h100:8`, or `h100` for one."""
    name, colon, number = word.partition(":")
    gpu = find_gpu(name)
    if colon and not (number.isascii() and number.isdecimal() and int(number) > 0):
        raise UsageError(f"'{word}' does not say how many GPUs", hint=f"e.g. {gpu.name}:8")
    return gpu, int(number) if colon else 1


def _refuse_long_rows(loaded: Loaded, tokens: int | None) -> None:
    """Rows beyond `max_length` would be cut, and the estimate one of other rows."""
    longest = loaded.recipe.batching.max_length
    if tokens is not None and tokens > longest:
        message = f"rows of {tokens:,} tokens are longer than batching.max_length = {longest:,}"
        hint = f"--set batching.max_length={tokens}"
        raise RecipeError(Problem(message, where=loaded.where(("batching", "max_length")), hint=hint))
