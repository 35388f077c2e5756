"""Which formats read given rows, by trying each; and a recipe whose formats are chosen by its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from fttool.contracts.recipe import DataTable, Recipe, RowsTable
from fttool.contracts.rows import Example, Format, FormatContext, FormatLook, FormatTrial
from fttool.contracts.strategy import Level, Strategy
from fttool.errors import DataError, Problem, gist
from fttool.listing import installed
from fttool.plugins import Plugins
from fttool.recipe.closed import recipe_type
from fttool.recipe.loaded import Loaded
from fttool.rows.checks.columns import Columns
from fttool.rows.checks.noted import noted_row
from fttool.rows.raw import raw_rows

LOOKED_AT = 1_000
"""Rows by which a format is chosen."""


def formats_that_read(
    plugins: Plugins, rows: Sequence[Mapping[str, Any]], level: Level
) -> Iterator[tuple[str, Example]]:
    """The formats for tasks of this level that take all of these rows, with what each makes of the first one."""
    for candidate in candidates(plugins, level):
        read = [takes(candidate, row, level) for row in rows]
        if read and read[0] and all(read):
            yield candidate.id(), read[0]


def candidates(plugins: Plugins, level: Level | None) -> Iterator[Format]:
    """The installed formats for tasks of this level, built-in ones first; without those of broken plugins."""
    return built_alone(installed(plugins, "format")[0], level)


def built_alone(kinds: Iterable[type[Strategy]], level: Level | None) -> Iterator[Format]:
    """Formats for tasks of this level, but for those that choose one and those whose options must be given."""
    for kind in kinds:
        if issubclass(kind, Format) and kind.serves(level) and not kind.chooses:
            try:
                yield kind()  # pyright: ignore[reportAbstractUsage]
            except ValueError:
                continue


def takes(form: Format, row: Mapping[str, Any], level: Level | None) -> Example | None:
    """What a format makes of a row; None where it refuses it, or leaves anything unread that means something."""
    try:
        return _read(form, row, level, (), Columns())
    except ValueError:
        return None


class _LossyError(ValueError):
    """Raised where a format reads a row, and leaves something unread."""


def _read(form: Format, row: Mapping[str, Any], level: Level | None, ignore: Sequence[str], into: Columns) -> Example:
    """What a format makes of a row; raises `ValueError` where `takes` says None. What is read is counted in `into`."""
    noted, turns, ignored = noted_row(row, ignore)
    try:
        example = form.build(FormatContext(origin="", level=level))(noted, "")
        loses, own = into.count(noted, turns, ignored, example), form.recognises(row)
    except ValueError:
        raise
    except Exception as fault:  # code of others, on rows that it was not written for
        raise ValueError(f"it fails: {gist(fault)}") from fault
    if not own:
        raise ValueError("it does not take the row for one of its own")
    if loses:
        uses = {**into.columns, **into.turn_keys}
        named = ", ".join(f"'{key}'" for key, use in uses.items() if use.lost)
        raise _LossyError(f"it would leave {named} unread")
    return example


def remedy(loaded: Loaded, table: RowsTable, rows: list[Mapping[str, Any]]) -> str:
    """The formats that leave nothing of these rows unread, tried on them."""
    level = loaded.recipe.task.learns
    others = [form for form in candidates(loaded.plugins, level) if form.id() != table.format.id()]
    fitting = [form.id() for form in others if all(takes(form, row, level) for row in rows)]
    if not fitting:
        return "no installed format reads it"
    return " or ".join(f'format = "{name}"' for name in fitting) + f" reads {'it' if len(rows) == 1 else 'them'}"


def settled(loaded: Loaded) -> Loaded:
    """The recipe with each format that chooses replaced by the one that it has chosen; `said` says why.

    Raises:
        DataError: where none fits the first rows, or they are of several shapes.
    """
    data, said = loaded.recipe.data, list[str]()
    for key, table in data.datasets():
        chosen, why = settled_table(loaded, table, key)
        if why:
            data = _with_table(data, key, chosen)
            said.append(why)
    if not said:
        return loaded
    recipe = loaded.recipe.model_copy(update={"data": data})
    return replace(loaded, recipe=_closed_over(loaded, recipe), said=(*loaded.said, *said))


def _closed_over(loaded: Loaded, recipe: Recipe) -> Recipe:
    """The recipe in a type that has its formats: one of a plugin that the file does not name was not in the first."""
    prefixes = {strategy.id().partition(".")[0] for _, strategy in recipe.strategies() if "." in strategy.id()}
    if all("." not in table.format.id() for _, table in recipe.data.datasets()):
        return recipe
    values = loaded.recipe.model_dump(mode="json", exclude_none=True)
    for (_, part, index), table in recipe.data.datasets():
        values["data"][part][index]["format"] = table.format.model_dump(mode="json", exclude_none=True)
    return recipe_type(lambda family: loaded.plugins.family(family, prefixes)).model_validate(values)


def settled_table(loaded: Loaded, table: RowsTable, key: tuple[str, str, int]) -> tuple[RowsTable, str]:
    """The same of one dataset: its table, and why its format was chosen, "" where the recipe names it."""
    if not table.format.chooses:
        return table, ""
    try:
        chosen, why = table.format.settle(partial(_look, loaded, table, key))
    except ValueError as wrong:
        where = ", ".join(table.paths)
        hint = f'name it: format = "{Format.place.default}", say; `fttool formats` lists them'
        raise DataError(Problem(str(wrong), where=where, hint=hint, key=(*key, "format"))) from None
    why = f'{table.dataset}: format "{table.format.id()}" is "{chosen.id()}": {why}'
    return table.model_copy(update={"format": chosen}), why


def _look(loaded: Loaded, table: RowsTable, key: tuple[str, str, int]) -> FormatLook:
    """The first rows of a dataset, and what each format makes of them."""
    if not table.paths:
        message = f"the format of '{table.hub}' is to be chosen by its rows, and only files are looked at for that"
        hint = f'`fttool formats` lists them: format = "{Format.place.default}", say'
        raise DataError(Problem(message, hint=hint, key=(*key, "format")))
    with closing(raw_rows(loaded, table)) as raw:
        rows = list(islice(raw, min(LOOKED_AT, table.limit or LOOKED_AT)))
    level = loaded.recipe.task.learns
    kinds, broken = installed(loaded.plugins, "format")
    return replace(look(built_alone(kinds, level), rows, level, table.ignore), broken=broken)


def look(
    formats: Iterable[Format],
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    level: Level | None,
    ignore: Sequence[str] = (),
) -> FormatLook:
    """What each of the formats makes of rows, (origin, row) each."""
    trials: list[FormatTrial] = []
    for form in formats:
        refused: dict[int, str] = {}
        lossy: set[int] = set()
        unread = Counter[str]()
        for index, (_, row) in enumerate(rows):
            columns = Columns()
            try:
                _read(form, row, level, ignore, columns)
            except ValueError as wrong:
                refused[index] = str(wrong)
                lossy |= {index} if isinstance(wrong, _LossyError) else set()
                continue
            unread.update(name for name, use in columns.columns.items() if use.not_read)
        trials.append(FormatTrial(form, refused, frozenset(lossy), unread))
    columns = Counter(name for _, row in rows for name in row)
    return FormatLook([origin for origin, _ in rows], trials, columns)


def _with_table(data: DataTable, key: tuple[str, str, int], table: RowsTable) -> DataTable:
    _, part, index = key
    tables: list[RowsTable] = list(getattr(data, part))
    tables[index] = table
    return data.model_copy(update={part: tuple(tables)})
