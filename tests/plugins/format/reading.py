"""A row as a format reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fttool.api import Example, Format, FormatContext

ORIGIN = "rows.jsonl:7"


def read_as(kind: type[Format], row: dict[str, Any], notes: Counter[str] | None = None, **options: Any) -> Example:
    """The row, which stands at `ORIGIN`; what is done to it is counted in `notes`."""
    context = FormatContext(origin="rows.jsonl", note=lambda what: notes.update([what]) if notes is not None else None)
    return kind(**options).build(context)(row, ORIGIN)


def refused_as(kind: type[Format], row: dict[str, Any], **options: Any) -> str:
    """Why the format refuses the row."""
    with pytest.raises(ValueError) as caught:
        read_as(kind, row, **options)
    return str(caught.value)
