"""The command line of `fttool decide`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fttool.api import UsageError
from fttool.verbs import add_overrides
from fttool_plugins.verbs.estimate.price import amount, per_hour

SECONDS = {"s": 1, "m": 60, "h": 3600, "": 60}
"""Of a unit of time; a bare number is minutes."""


OF_ROWS = ("measure", "instructions", "shots", "gpus", "price", "model", "overrides")
"""Options that say something of rows or a recipe."""
OF_PRICES = (
    *("prompt_tokens", "tuned_prompt_tokens", "output_tokens", "cached_price", "output_price", "tuned_input_price"),
    *("tuned_output_price", "hosting", "training", "retrain", "requests", "gpus", "price", "plot"),
)
"""Options that say nothing as long as it is not known what a token costs."""
SHOTS = 5
"""Examples in a long prompt where nobody says how many."""


def refuse_gaps(options: argparse.Namespace) -> None:
    """Raise `UsageError` where options do not say enough, or one of them would go unread beside the others."""
    if options.recipe is None:
        _refuse_nothing(options)
    unread = next((name for name in OF_PRICES if getattr(options, name) is not None), None)
    if options.input_price is None and unread:
        message = f"{_spelt(unread)} is for the cost, and what a token costs is not known"
        raise UsageError(message, hint="say it: --input-price 3, in dollars per million")
    if (options.hosting or options.retrain) and options.requests is None:
        hint = "say how many there are: --requests 1000"
        raise UsageError("what is paid by the month is shared by the requests of a day", hint=hint)
    if options.cached_share is not None and options.cached_price is None:
        raise UsageError("--cached-share goes with --cached-price", hint="e.g. --cached-price 0.30")
    _refuse_pairs(options)
    _refuse_measuring(options)


def _refuse_pairs(options: argparse.Namespace) -> None:
    """Two options that say the same."""
    given = {name for name, value in vars(options).items() if value is not None}
    pairs = [("training", "gpus"), ("training", "price"), ("prompt_tokens", "instructions")]
    pairs += [] if options.measure else [("prompt_tokens", "shots")]
    for one, other in pairs:
        if {one, other} <= given:
            raise UsageError(f"{_spelt(one)} and {_spelt(other)} say the same", hint="leave one of them out")


def _refuse_measuring(options: argparse.Namespace) -> None:
    if options.budget is not None and not options.measure:
        raise UsageError("--budget bounds --measure", hint="add --measure, or leave --budget out")
    if options.recipe is not None and options.measure and options.recipe.suffix != ".toml":
        message = f"'{options.recipe}' is not a recipe, and --measure makes runs of one"
        raise UsageError(message, hint="fttool init writes one for your rows")


def _refuse_nothing(options: argparse.Namespace) -> None:
    """Without rows all figures must be given."""
    for name in OF_ROWS:
        if getattr(options, name):
            raise UsageError(f"{_spelt(name)} needs a recipe or a file of rows", hint="fttool decide my.toml …")
    if options.prompt_tokens is None or options.tuned_prompt_tokens is None or options.input_price is None:
        hint = "--prompt-tokens 1000 --tuned-prompt-tokens 50 --input-price 10 --training 100-1000"
        raise UsageError("name a recipe or a file of rows, or say all of it", hint=hint)


def _spelt(name: str) -> str:
    """An option as it is written."""
    return "--set" if name == "overrides" else f"--{name.replace('_', '-')}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Rows, requests, prices, and what becomes of the result."""
    parser.add_argument(
        "recipe",
        type=Path,
        nargs="?",
        metavar="RECIPE|FILE",
        help="whose rows are looked at",
    )
    add_overrides(parser, "override one key of the recipe, or of the one that a file gets")
    parser.add_argument("--model", metavar="MODEL", help="another one, or that of a file's rows: its tokenizer counts")
    _add_requests(parser)
    _add_prices(parser)
    parser.add_argument("--measure", action="store_true", help="try it in short runs: prompt, modes, learning curve")
    parser.add_argument("--budget", type=seconds, metavar="TIME", help="of --measure: 90s, 10m, 2h; default: 10m")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the cost over requests: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")


def _add_requests(parser: argparse.ArgumentParser) -> None:
    """How many requests there are, and how long they are."""
    parser.add_argument(
        "--prompt-tokens", type=number(0, above=True), metavar="N", help="of a request with a long prompt"
    )
    parser.add_argument("--tuned-prompt-tokens", type=number(0), metavar="N", help="of one to the fine-tuned model")
    parser.add_argument("--output-tokens", type=number(0), metavar="N", help="of an answer; default: the rows', else 0")
    parser.add_argument(
        "--shots", type=number(0, whole=True), metavar="K", help=f"examples in the long prompt; default: {SHOTS}"
    )
    parser.add_argument("--instructions", type=Path, metavar="FILE", help="text that the long prompt has beside them")
    parser.add_argument("--requests", type=number(0, above=True), metavar="N", help="a day")


def _add_prices(parser: argparse.ArgumentParser) -> None:
    """In dollars; of tokens per million."""
    price: Any = {"type": amount, "metavar": "USD"}
    parser.add_argument("--input-price", **price, help="of prompt tokens, per million")
    parser.add_argument("--cached-price", **price, help="of prompt tokens that the provider has cached")
    parser.add_argument(
        "--cached-share", type=share, metavar="SHARE", help="of the long prompt; default: what fine-tuning saves of it"
    )
    parser.add_argument("--output-price", **price, help="of an answer's tokens, per million; default: 0")
    parser.add_argument("--tuned-input-price", **price, help="if fine-tuned; default: the same, or 0 if hosted")
    parser.add_argument("--tuned-output-price", **price, help="if fine-tuned; default: the same, or 0 if hosted")
    parser.add_argument("--hosting", **price, help="of the fine-tuned model, per hour")
    parser.add_argument("--training", type=per_hour, metavar="USD", help="of one training: 300, or 100-1000")
    parser.add_argument("--gpus", metavar="GPU:N", help="estimate the training on these, e.g. h100:8")
    parser.add_argument("--price", type=per_hour, metavar="USD", help="per hour of one; without --gpus measured here")
    parser.add_argument("--retrain", type=number(0), metavar="N", help="trainings a month; default: 0")


def number(least: float, *, above: bool = False, whole: bool = False) -> Callable[[str], float]:
    """Numbers from `least` on, or only `above` it."""
    wanted = f"{'an integer' if whole else 'a number'} {'above' if above else 'of at least'} {least:g}"

    def read(text: str) -> float:
        try:
            value: float = int(text) if whole else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < least or (above and value == least):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return read


def share(text: str) -> float:
    """From 0 to 1."""
    value = number(0)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: 0 to 1")
    return value


def seconds(text: str) -> float:
    """`90s`, `10m`, `2h`; a bare number is minutes."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text.strip(), re.ASCII)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: 90s, 10m, 2h")
    return float(found[1]) * SECONDS[found[2]]
