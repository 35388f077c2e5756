"""Draw how a number of a run went, in a line of text.

The first line of this docstring is what `fttool --help` says of the verb; it is read without importing this module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from fttool.api import ExitCode, UsageError, did_you_mean
from fttool.verbs import verb_parser

BARS = "▁▂▃▄▅▆▇█"
EXAMPLES = """\
examples:
  fttool acme-curve runs/my                     the training loss
  fttool acme-curve runs/my --metric eval_loss  another number of metrics.jsonl
"""


def main(words: Sequence[str]) -> int:
    """Draw a number of a run; `words` are the arguments after the verb."""
    parser = verb_parser("acme-curve", "Draw how a number of a run went, in a line of text.", EXAMPLES)
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--metric", default="loss", help="a number of metrics.jsonl (default: loss)")
    parser.add_argument("--width", type=int, default=60, help="characters of the curve (default: 60)")
    asked = parser.parse_args(words)
    values = read(asked.run, asked.metric)
    print(f"{asked.metric}  {values[0]:.4f} → {values[-1]:.4f}, lowest {min(values):.4f}, highest {max(values):.4f}")
    print(curve(values, max(asked.width, 1)))
    return ExitCode.OK


def read(run: Path, metric: str) -> list[float]:
    """The values of a metric in the order in which they were logged."""
    try:
        text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    except OSError as fault:
        hint = "name a run directory: runs/NAME"
        raise UsageError(f"cannot read '{run / 'metrics.jsonl'}': {fault.strerror}", hint=hint) from fault
    lines = [json.loads(line) for line in text.splitlines()]
    values = [float(line[metric]) for line in lines if line.get(metric) is not None]
    if not values:
        known = sorted({name for line in lines for name, value in line.items() if isinstance(value, int | float)})
        raise UsageError(f"'{run}' has no metric '{metric}'", hint=did_you_mean(metric, known))
    return values


def curve(values: Sequence[float], width: int) -> str:
    """A bar per value from the lowest to the highest; the mean of neighbours where there are more than `width`."""
    edges = [place * len(values) // min(width, len(values)) for place in range(min(width, len(values)) + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    steps = len(BARS) - 1
    return "".join(BARS[round((mean - low) / (high - low) * steps) if high > low else steps // 2] for mean in means)
