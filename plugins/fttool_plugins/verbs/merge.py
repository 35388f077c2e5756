"""Mix a run's final weights with those it started from (WiSE-FT).

(1 − α)θ₀ + αθ₁ over all weights that the model's source gives (arXiv 2109.01903): α = 1 is the fine-tuned model, α = 0
the one before. Some of what was learned is given back for what was forgotten. The result is a model folder like the
run's own, measured on the run's evaluation and retention rows where it has some.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fttool.api import ExitCode, UsageError, apply_umask, show
from fttool.verbs import final_model, initial_weights, load_run, measure, verb_parser, writer_lock
from fttool_plugins.regularizer.wise_ft import interpolate

EXAMPLES = """\
examples:
  fttool merge runs/my --alpha 0.7                   writes runs/my/model-0.7
  fttool merge runs/my --alpha 0.5 -o merged         a folder of your choice; it must not exist
  fttool generate merged "How do I sort a list?"     ask the result

The recipe's own [[regularizers]] name = "wise-ft" does the same at the end of a run.

next: fttool generate merged "question"
"""

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


def main(words: Sequence[str]) -> int:
    """Write the mixture and say how good it is."""
    parser = verb_parser("merge", __doc__, EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's directory")
    parser.add_argument(
        "--alpha", type=_share, required=True, metavar="A", help="share of the fine-tuned weights, 0 to 1"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: RUN/model-A")
    parser.add_argument("--no-eval", action="store_true", help="do not measure it")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    options = parser.parse_args(words)
    output: Path = options.output or options.run / f"model-{options.alpha:g}"
    if output.exists():
        raise UsageError(f"'{output}' exists; it is never overwritten", hint="choose another folder: -o DIR")
    run = load_run(options.run)
    inside = output.resolve().is_relative_to(options.run.resolve())
    with writer_lock(options.run) if inside else nullcontext(), _whole(output) as folder:
        model, before = final_model(run), initial_weights(run)
        if not _moved(model, before):
            raise UsageError(
                f"nothing to mix: the weights that '{options.run}' started from are its final ones",
                hint="what its source lacks, such as a new head, is not mixed; did anything else train?",
            )
        interpolate(model.named_parameters(), before, options.alpha)
        shutil.copytree(options.run / "model", folder, ignore=shutil.ignore_patterns(*WEIGHTS), dirs_exist_ok=True)
        model.save_pretrained(folder)
    show(f"{options.run}: alpha {options.alpha:g} → {output}")
    if not options.no_eval:
        measured = measure(run, model, quiet=options.quiet)
        show(*_table(options.run, measured, options.alpha))
    return ExitCode.OK


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


@contextmanager
def _whole(output: Path) -> Generator[Path]:
    """A folder that becomes `output` where all goes well, else vanishes; `UsageError` where there can be none."""
    aside = output.with_name(f".{output.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as fault:
        message = f"cannot write '{output}': {fault.strerror}"
        raise UsageError(message, hint="choose another folder: -o DIR") from fault
    try:
        yield aside
        apply_umask(aside)
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _moved(model: Any, before: Mapping[str, Any]) -> bool:
    """True where any weight is another one than before training."""
    return any(
        name in before and not p.detach().float().equal(before[name].to(p.device))
        for name, p in model.named_parameters()
    )


def _table(run: Path, measured: Mapping[str, float], alpha: float) -> list[str]:
    """The metrics of the mixture between those that the run has recorded before and after training."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))

    def recorded(when: str) -> dict[str, float]:
        values_by_name = {f"eval_{name}": value for name, value in summary["eval"][when].items()}
        for dataset, values in summary["retention"][when].items():
            values_by_name |= {f"retention_{dataset}_{name}": value for name, value in values.items()}
        return values_by_name

    before, after = recorded("before"), recorded("after")
    if not measured:
        return ["the run has no evaluation or retention rows to measure it on"]
    width = max(map(len, measured))
    lines = [f"  {'':<{width}}  {'before':>10}  {f'alpha {alpha:g}':>10}  {'after':>10}"]
    for name, value in measured.items():
        numbers = "  ".join(f"{number:>10.4f}" for number in (before[name], value, after[name]))
        lines.append(f"  {name:<{width}}  {numbers}")
    return lines
