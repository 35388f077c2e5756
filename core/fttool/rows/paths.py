"""What a recipe names on this machine, looked at before anything is loaded: the model, its chat template, rows, and the
files of other strategies.

A path that is wrong is a mistake in the recipe: it is said at its key there, not minutes later where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from fttool.contracts.model import ModelSource
from fttool.contracts.recipe import ADDRESS, RowsTable
from fttool.errors import DataError, FttoolError, ModelError, Problem, RecipeError
from fttool.recipe.faults import blamed
from fttool.recipe.loaded import Loaded
from fttool.recipe.overrides import Key
from fttool.recipe.salvaging import Rest
from fttool.rows.chat import read_template
from fttool.rows.files.remote import address_obstacle
from fttool.rows.files.source import named_paths
from fttool.rows.raw import raw_rows

TRIED = 20
"""Files of a dataset whose first rows are read."""


def refuse_unusable(loaded: Loaded) -> None:
    """Raise all that is wrong with what the recipe names on this machine; imports no torch."""
    errors = unusable(Rest(loaded))
    if errors:
        raise together(errors)


def unusable(rest: Rest) -> list[FttoolError]:
    """An error for each path that cannot be used, located at its key in the recipe; what is wrong there is skipped.

    Of a file of rows the first row is read, which tells a file of another kind too.
    """
    loaded = rest.loaded
    with blamed(loaded):
        errors = [*_of_strategies(rest), *_of_the_template(rest), *_of_rows(rest)]
    for error in errors:
        error.locate(loaded.where)
    return errors


def together(errors: Sequence[FttoolError]) -> FttoolError:
    """All problems of one or more errors, as an error of that kind among them which has the lowest exit code."""
    lowest = type(min(errors, key=lambda error: error.exit_code))
    return lowest(problem for error in errors for problem in error.problems)


def row_obstacle(loaded: Loaded, table: RowsTable) -> Problem | None:
    """What keeps the first rows of a dataset's files from being read, of many files of the first ones; without a place
    where it is the path itself.
    """
    if table.remote:  # the network is asked by a run alone
        return next(filter(None, map(address_obstacle, filter(ADDRESS.match, table.paths))), None)
    try:
        paths = named_paths(loaded.folder, table.paths)
    except DataError as broken:
        (problem,) = broken.problems
        return replace(problem, message=f"'{problem.where}': {problem.message}", where="")
    for path in paths[:TRIED]:
        try:
            with closing(raw_rows(loaded, table, [path])) as rows:
                next(rows, None)
        except DataError as broken:
            (problem,) = broken.problems
            itself = problem.where == str(path)
            return replace(problem, message=f"'{path}': {problem.message}", where="") if itself else problem
    return None


def _of_strategies(rest: Rest) -> Iterator[FttoolError]:
    recipe = rest.loaded.recipe
    for place, strategy in recipe.strategies():
        if rest.stands(place):
            problems = [
                replace(problem, key=(*place, *problem.key))
                for problem in strategy.check_files(recipe, rest.loaded.folder)
            ]
            if problems:
                yield (ModelError if isinstance(strategy, ModelSource) else RecipeError)(problems)


def _of_the_template(rest: Rest) -> Iterator[FttoolError]:
    key: Key = ("model", "chat_template")
    if rest.stands(key):
        try:
            read_template(rest.loaded.recipe.model.chat_template, rest.loaded.folder)
        except ModelError as wrong:
            yield wrong


def _of_rows(rest: Rest) -> Iterator[FttoolError]:
    for place, table in rest.loaded.recipe.data.datasets():
        key = (*place, "path")
        if table.paths and rest.stands(key):
            problem = row_obstacle(rest.loaded, table)
            if problem is not None:
                yield DataError(problem if problem.where else replace(problem, key=key))
