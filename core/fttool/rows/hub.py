"""A dataset on the hub: the only place where rows come over the network, and only because a recipe names it."""

from __future__ import annotations

from typing import Any

from fttool.contracts.recipe import RowsTable
from fttool.contracts.rows import RawRows
from fttool.errors import DataError, Problem, gist
from fttool.plain import as_row, is_array
from fttool.recipe.overrides import Key


def load(table: RowsTable, key: Key) -> Any:
    """The dataset that `table.hub` names; raises `DataError` where it cannot be had."""
    from datasets import load_dataset

    try:
        return load_dataset(str(table.hub), split=_split(table), revision=table.revision)
    except Exception as fault:  # offline, gated, missing, no such split: datasets raises a dozen kinds
        message = f"cannot load the dataset '{table.hub}' ({_split(table)}) from the hub: {gist(fault)}"
        hint = "check the name and split; gated datasets need HF_TOKEN in the environment"
        raise DataError(Problem(message, hint=hint, key=(*key, "hub"))) from fault


def published(table: RowsTable, dataset: Any) -> dict[str, Any]:
    """Which dataset it is: its revision, and datasets' hash of the commit, files, configuration and split."""
    return {"revision": table.revision, "fingerprint": dataset._fingerprint}


def rows(table: RowsTable, dataset: Any) -> RawRows:
    """The rows, with the names of classes in place of the numbers by which datasets stores them; below 0 is none.

    A null that only the schema put there is left out, and dates are text, as a reader of columns has it.
    """
    names: dict[str, list[str] | None] = {
        column: getattr(getattr(feature, "feature", feature), "names", None)
        for column, feature in (dataset.features or {}).items()
    }

    def named(value: Any, known: list[str]) -> Any:
        if is_array(value):
            return [named(entry, known) for entry in value]
        return known[value] if isinstance(value, int) and value >= 0 else None

    for number, row in enumerate(dataset):
        values = {
            column: named(value, known) if (known := names.get(column)) else value for column, value in row.items()
        }
        yield f"hub:{table.hub}:{_split(table)}:{number}", as_row(values)


def _split(table: RowsTable) -> str:
    return table.split or "train"
