"""Look for what is wrong with rows: of a recipe, or of a bare file.

Every installed filter is asked about every training row, each by itself; tokens, lengths, classes and overlap are
counted, and five numbers say how the rows are as a whole. Nothing is changed, and nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fttool.api import Example, ExitCode, UsageError, show, visible_json
from fttool.verbs import (
    Loaded,
    Surveyed,
    add_overrides,
    judging,
    progress,
    ready_filters,
    row_encoder,
    row_tokenizer,
    survey,
    verb_parser,
)
from fttool_plugins.verbs.audit.reading import audited, sample_of
from fttool_plugins.verbs.audit.report import Indicator, Report, as_data
from fttool_plugins.verbs.counts import positive

EXAMPLES = """\
examples:
  fttool audit my.toml                             the recipe's rows, with its tokenizer and its filters' options
  fttool audit chats.jsonl                         a file by itself; its format is found by trying
  fttool audit chats.jsonl --eval kept.jsonl       are rows measured on that are learned, too?
  fttool audit my.toml --against old.jsonl         do the rows look like those of this sample?
  fttool audit my.toml --set batching.max_length=512
  fttool audit my.toml --difficulty                how hard are they for the model that training begins with?
  fttool audit my.toml --measure --minutes 5       what to do first: what leaving suspects out gains a small model
  fttool audit my.toml -o audit.html               with the ten worst rows of each kind, in one file
  fttool audit my.toml --json > audit.json

All options of filters are their defaults, unless the recipe sets them. The rows are shown as they are, personal data
too: keep what is written to yourself.

next: write [[filters]] into the recipe, then fttool run my.toml --dry-run
"""


def main(words: Sequence[str]) -> int:
    """Print what was found."""
    options = _parser().parse_args(words)
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise UsageError(
            f"the folder '{options.output.parent}' does not exist", hint="make it, or name another: -o FILE"
        )
    report = audit(options)
    if options.output is not None:
        _write(options.output, report)
    if options.json:
        print(visible_json(json.dumps(as_data(report), indent=1, ensure_ascii=False)))
    else:
        from fttool_plugins.verbs.audit.screen import screen

        show(*screen(report, shutil.get_terminal_size((100, 24)).columns))
    return ExitCode.OK


def _write(file: Path, report: Report) -> None:
    from fttool_plugins.verbs.audit.browsing import browsed

    try:
        file.write_text(browsed(report), encoding="utf-8")
    except OSError as fault:
        message = f"cannot write '{file}': {fault.strerror}"
        raise UsageError(message, hint="name another file: -o FILE") from fault
    show(f"wrote {file}", error=True)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("audit", __doc__, EXAMPLES)
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE|FILE", help="a recipe, a file of rows, or a folder of texts"
    )
    add_overrides(parser, "override one key of the recipe, or of the one that a file gets")
    parser.add_argument(
        "--model", metavar="MODEL", help="whose tokenizer counts; for a file by default the built-in one"
    )
    parser.add_argument("--eval", type=Path, action="append", metavar="FILE", help="evaluation rows beside a bare file")
    parser.add_argument("--against", type=Path, metavar="FILE", help="a sample of what will be asked of the model")
    parser.add_argument("--slow", action="store_true", help="ask filters that compute with a model, too")
    parser.add_argument("--difficulty", action="store_true", help="load the starting model, and ask it some rows")
    parser.add_argument("--measure", action="store_true", help="try what leaving suspects out gains, in short runs")
    parser.add_argument("--updates", type=positive, default=30, metavar="N", help="of each such run; default: 30")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="pairs of runs a filter; default: 3")
    parser.add_argument(
        "--minutes", type=float, default=10.0, metavar="N", help="after these no run begins; default 10"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="write it as a page for a browser, too")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="show the result only")
    return parser


def audit(options: argparse.Namespace) -> Report:
    """Read, count, ask, and sum up."""
    from fttool_plugins.verbs.audit import asking, counting, findings, gains, indicators, steps

    began, quiet = time.monotonic(), options.quiet or options.json
    loaded, how = audited(options)
    shown = progress(quiet=quiet)
    shown.stage("reading the rows")
    tokenizer = row_tokenizer(loaded)
    datasets = survey(loaded, tokenizer)
    train = [example for one in datasets if one.part == "train" for example in one.examples]
    measured = [example for one in datasets if one.part in ("eval", "retention") for example in one.examples]
    tokens = counting.tokens(loaded, row_encoder(loaded, tokenizer), train, shown.track)
    shown.stage("asking the filters")
    judge = judging(loaded, tokenizer, train, measured, quiet=quiet)
    suspects, not_run = asking.asked(*ready_filters(loaded), judge, train, slow=options.slow)
    clean = len(train) - len(frozenset[str]().union(*(one.origins for one in suspects)))
    classes, overlap = counting.classes(train), counting.overlap(train, measured)
    made, order = steps.steps(suspects), steps.BY_COUNT
    if options.measure:
        bounds = gains.Bounds(updates=options.updates, seeds=options.seeds, minutes=options.minutes)
        made, order = gains.measured(loaded, datasets, suspects, bounds, shown.stage)
    shown.stage("comparing the rows")
    correct = indicators.correctness(clean, len(train), len(suspects))
    return Report(
        source=str(options.recipe),
        how=how,
        model=options.model or _model(loaded),
        task=loaded.recipe.task.id(),
        datasets=[counting.dataset(one) for one in datasets],
        train_rows=len(train),
        tokens=tokens,
        turns=counting.turns(train),
        classes=classes,
        suspects=suspects,
        not_run=not_run,
        clean=clean,
        repeated=counting.repeated(train),
        overlap=overlap,
        indicators=_indicators(options, loaded, datasets, tokenizer, train, correct),
        findings=list(findings.findings(loaded, datasets, len(train), tokens, classes, overlap)),
        steps=made,
        order=order,
        seconds=round(time.monotonic() - began, 1),
    )


def _indicators(
    options: argparse.Namespace,
    loaded: Loaded,
    datasets: Sequence[Surveyed],
    tokenizer: Any,
    train: Sequence[Example],
    correct: Indicator,
) -> list[Indicator]:
    from fttool_plugins.verbs.audit import indicators, starting

    seed, against = loaded.recipe.run.seed, None
    if options.against is not None:
        against = [example for one in survey(sample_of(options.against, loaded), tokenizer) for example in one.examples]
    model = options.model or _model(loaded)
    hard = indicators.difficulty(None, 0, model, starting.UNASKED)
    if options.difficulty:
        hard = starting.asked(loaded, datasets, model, quiet=options.quiet or options.json)
    return [
        indicators.diversity(train, seed),
        correct,
        indicators.consistency(train, seed),
        indicators.representativeness(train, against, seed),
        hard,
    ]


def _model(loaded: Loaded) -> str:
    source = loaded.recipe.model.source
    return f"{source.id()}:{source.path}"
