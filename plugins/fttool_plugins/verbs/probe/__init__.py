"""Measure shardings and micro-batches: tokens per second and memory.

To be asked before a long run. Each candidate makes a few real updates of the recipe, with the same rows, in processes
of its own; nothing is saved and nothing is left. Sharding buys memory with communication, so less of it, with more
accumulation, is often faster.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fttool.api import ExitCode, show
from fttool.verbs import add_recipe, load_recipe, verb_parser
from fttool_plugins.verbs.counts import comma_separated, positive
from fttool_plugins.verbs.probe.candidates import ALL, KNOWN, OWN, Candidate, make_candidates, shardings
from fttool_plugins.verbs.probe.measuring import WARM_UP, Outcome, environment, measure
from fttool_plugins.verbs.probe.showing import as_json, in_words, screen
from fttool_plugins.verbs.temporary import temporary

EXAMPLES = f"""\
examples:
  fttool probe my.toml                               the recipe's sharding, with half and double its micro-batch
  fttool probe my.toml --sharding all                every sharding, in the recipe's number of processes
  fttool probe my.toml --sharding all --processes 4  in four
  fttool probe my.toml --sharding ddp,fsdp --micro-batches 1,2,4
  fttool probe my.toml --sharding all --json > probe.json

shardings: {", ".join(KNOWN)}; fsdp and zero name all of their stages.
  {OWN} is the recipe's own, {ALL} all that so many processes can have; fsdp-2 is reshard_after_forward = false

next: fttool run my.toml --set sharding.name=…
"""


def main(words: Sequence[str]) -> int:
    """Measure, then recommend."""
    options = _parser().parse_args(words)
    loaded = load_recipe(options)
    chosen = shardings(loaded, options.sharding, options.processes)
    with temporary("probe") as folder:
        candidates = make_candidates(loaded, chosen, options.micro_batches, WARM_UP + options.updates, folder)
        outcomes = _measured(candidates, folder, quiet=options.quiet)
    if options.json:
        print(json.dumps(as_json(loaded, options.updates, outcomes), indent=2, ensure_ascii=False))
    else:
        show(*screen(loaded, options.updates, outcomes))
    return _exit_code(outcomes)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("probe", __doc__, EXAMPLES)
    add_recipe(parser)
    parser.add_argument(
        "--sharding",
        type=comma_separated,
        default=[],
        metavar="NAME,…",
        help="which to measure; default: the recipe's own",
    )
    parser.add_argument(
        "--micro-batches", type=_sizes, default=[], metavar="N,…", help="default: the recipe's, its half and its double"
    )
    parser.add_argument("--processes", type=positive, metavar="N", help="default: as many as the recipe has")
    parser.add_argument("--updates", type=positive, default=5, metavar="N", help="that count, after one; default: 5")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    return parser


def _sizes(text: str) -> list[int]:
    return [positive(word) for word in comma_separated(text)]


def _measured(candidates: Sequence[Candidate], folder: Path, *, quiet: bool) -> list[Outcome]:
    """One after the other. Where a micro-batch has no memory, a larger one under the same sharding is not tried."""
    inherited = environment(folder)
    outcomes: list[Outcome] = []
    full: dict[str, int] = {}
    for number, candidate in enumerate(candidates, start=1):
        smaller = full.get(candidate.sharding)
        if not quiet:
            show(f"… {number} of {len(candidates)}: {candidate}", error=True)
        if smaller is not None and candidate.loaded is not None:
            reason = f"not tried: out of memory at {smaller}"
            code = ExitCode.OUT_OF_MEMORY
            outcome = Outcome(candidate=candidate, status="out of memory", exit_code=code, reason=reason)
        else:
            outcome = measure(candidate, folder, inherited)
        if outcome.status == "out of memory":
            full.setdefault(candidate.sharding, candidate.micro_batch)
        outcomes.append(outcome)
        if not quiet:
            show(f"  {in_words(outcome)}", error=True)
    return outcomes


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 where anything was measured; else that of what came nearest to it: memory, another failure, a refusal."""
    codes = {outcome.status: outcome.exit_code for outcome in reversed(outcomes)}
    order = ("measured", "out of memory", "failed", "refused")
    return next(codes[status] for status in order if status in codes)
