"""Check a recipe against all that is installed, the files that it names, and their first rows; no model is loaded."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fttool.cli.recipe_arguments import add_recipe, load_recipe
from fttool.errors import ExitCode, FttoolError, PluginError, RecipeError, counted
from fttool.recipe.faults import explained
from fttool.recipe.salvaging import Rest, salvage
from fttool.rows.paths import together, unusable
from fttool.visible import show, tell

if TYPE_CHECKING:
    from fttool.contracts.recipe import Recipe
    from fttool.recipe.loaded import Loaded
    from fttool.rows.datasets import Reading
    from fttool.runs.advising import Advised

FIRST = 1_000
"""Rows of each dataset that are looked at."""

EXAMPLES = """\
examples:
  fttool validate my.toml
  fttool validate my.toml --set optimizer.lr=1e-4
  fttool validate my.toml --json
  fttool validate my.toml --advise           what would come of it, and what to do instead

All problems are listed in one go: of the recipe, of the files and folders that it names (the nearest names too), and
of the first 1,000 rows of each dataset. Which columns and keys of turns are read, and which are not, is listed with
counts. Rows on the hub are skipped. No tokenizer is loaded, so what depends on it is not checked: the chat template,
masks, control tokens, thoughts, lengths. `fttool run --dry-run` checks all of that, in all rows.

Advice is not an error: the exit code stays 0. Rules that look at tokens or weights are asked by `fttool run --dry-run`;
`[advice] ignore = ["…"]` leaves rules out. docs/advice.md says what each sees, and what it was proven on.

exit code: the lowest of the problems'; 3: the recipe is wrong, 4: rows or their path, 5: the path of the model or of
its chat template, 6: a plugin that the recipe needs is missing or broken

next: fttool preview my.toml, then fttool run my.toml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of this verb."""
    add_recipe(parser)
    parser.add_argument("--json", action="store_true", help="problems as a JSON list on stdout")
    parser.add_argument("--no-rows", action="store_true", help="the recipe alone: look at no files and no rows")
    parser.add_argument(
        "--advise", action="store_true", help="what would come of a valid recipe, by installed rules; JSON is an object"
    )


def main(options: argparse.Namespace) -> int:
    """Print all that is wrong, or that nothing is."""
    errors: list[FttoolError] = []
    looked_at: list[Reading] = []
    rest = _read(options, errors)
    lines = [] if rest is None or options.no_rows else _looked_at(rest, errors, looked_at)
    error = together(errors) if errors else None
    if options.json:
        problems = error.problems if error else ()
        found: Any = [{"message": p.message, "where": p.where, "hint": p.hint} for p in problems]
        if options.advise:
            advice = _advised(rest.loaded, looked_at).figures(rest.loaded.where) if rest and not error else {}
            found = {"problems": found, **advice}
        print(json.dumps(found, indent=2))
        return error.exit_code if error else ExitCode.OK
    if error:
        show(*lines)
        raise error
    unseen = "the chat template, masks, control tokens, thoughts and lengths of rows"
    more = f"  not checked: {unseen}; fttool run {options.recipe} --dry-run checks them"
    show(f"{options.recipe}: valid", *lines, *([] if options.no_rows else [more]))
    if options.advise and rest:
        advised = _advised(rest.loaded, looked_at).lines(rest.loaded.where)
        tell("", "advice:", *(f"  {line}" for line in advised))
    return ExitCode.OK


def _advised(loaded: Loaded, looked_at: Sequence[Reading]) -> Advised:
    """What installed rules say of the recipe and its rows, as far as these were counted."""
    from fttool.runs.advising import PARTS, advise

    data, counts = loaded.recipe.data, dict[str, int | None]()
    for part in PARTS:
        read = [reading for reading in looked_at if reading.key[1] == part]
        known = len(read) == len(getattr(data, part)) and all(reading.complete for reading in read)
        counts[part] = sum(len(reading.examples) for reading in read) if known else None
    if (train := counts["train"]) is not None and data.eval_share:
        aside = round(data.eval_share * train)
        counts |= {"train": train - aside, "eval": aside}
    return advise(loaded.recipe, counts)


def _read(options: argparse.Namespace, errors: list[FttoolError]) -> Rest | None:
    """The recipe, or what is left of it beside what is wrong; None where that is nothing."""
    try:
        return Rest(load_recipe(options))
    except (RecipeError, PluginError) as wrong:
        errors.append(wrong)
        return salvage(options.recipe, options.overrides)


def _looked_at(rest: Rest, errors: list[FttoolError], readings: list[Reading]) -> list[str]:
    """What there is to say of metrics, trackers, paths and first rows, a line each; and what is wrong with them.

    Datasets whose first rows could be looked at are added to `readings`.
    """
    from fttool.rows.datasets import unread_general
    from fttool.watch.tracking import refuse_missing_trackers

    loaded, lines = rest.loaded, list[str]()
    with _noting(errors), explained(loaded):
        refuse_missing_trackers(loaded.recipe)
    with _noting(errors):
        errors += unusable(rest)
    with _noting(errors), explained(loaded):
        lines += _rows(rest, errors, readings)
    lines += unread_general(loaded.recipe) if rest.unharmed(("data",)) else []
    lines += _unread_metrics(loaded.recipe) if rest.unharmed(("data",)) and rest.unharmed(("evaluation",)) else []
    return [f"  {line}" for line in lines]


@contextmanager
def _noting(errors: list[FttoolError]) -> Generator[None]:
    """Around a look: what it raises is noted, and the next one is taken."""
    try:
        yield
    except FttoolError as error:
        errors.append(error)


def _rows(rest: Rest, errors: list[FttoolError], looked_at: list[Reading]) -> Iterator[str]:
    """What the first rows of each dataset have that is read or not."""
    from fttool.rows.first_look import first_rows, refuse_nothing_read

    for reading, outcome in first_rows(rest, FIRST):
        name = f"{reading.key[1]} {reading.table.dataset}"
        if isinstance(outcome, FttoolError):
            errors.append(outcome)
        elif outcome:
            yield f"{name}: not checked: {outcome}"
        else:
            looked_at.append(reading)
            yield from _lines(name, reading)
    refuse_nothing_read(looked_at)


def _unread_metrics(recipe: Recipe) -> Iterator[str]:
    """Metrics that nothing measures."""
    if not recipe.has_eval and not recipe.data.retention and "metrics" in recipe.evaluation.model_fields_set:
        names = ", ".join(metric.id() for metric in recipe.evaluation.metrics)
        yield f"evaluation.metrics ({names}) are not measured: there are no evaluation rows; set data.eval_share = 0.05"


def _lines(name: str, reading: Reading) -> list[str]:
    """What there is to say of one dataset."""
    from fttool.rows.checks.columns import described

    good, verb = len(reading.examples), "is" if len(reading.examples) == 1 else "are"
    more = "" if reading.complete else ", the first ones"
    lines = [f"{name}: {good:,} of {counted(reading.bad.rows, 'row')} {verb} good{more}"]
    lines += [f"{name}: {counted(count, 'row')} {reason}" for reason, count in reading.left_out.items()]
    lines += [*described(name, reading.columns.as_data()), *reading.notices(unread=False), *reading.classes.notices()]
    return lines
