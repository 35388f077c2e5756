"""A row as a format reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fttool.api import Example, Format, FormatContext

ORIGIN = "rows.jsonl:7"


def read_as(
    kind: type[Format],
    row: dict[str, Any],
    notes: Counter[str] | None = None,
    chat: bool | None = None,
    **options: Any,
) -> Example:
    """The row, which stands at `ORIGIN`; what is done to it is counted in `notes`."""
    count = (lambda what: notes.update([what])) if notes is not None else (lambda what: None)
    context = FormatContext(origin="rows.jsonl", note=count, chat=chat)
    return kind(**options).build(context)(row, ORIGIN)


def refused_as(kind: type[Format], row: dict[str, Any], chat: bool | None = None, **options: Any) -> str:
    """Why the format refuses the row."""
    with pytest.raises(ValueError) as caught:
        read_as(kind, row, chat=chat, **options)
    return str(caught.value)
