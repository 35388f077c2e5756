"""What a row of conversation looks like, and how rows are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""`about`: the name that the conversation is on; `messages`: its turns."""


def row(about: str, *turns: str, system: str = "") -> Row:
    """A row of alternating user and assistant turns."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"about": about, "messages": messages}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines in UTF-8, the same bytes on every system."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes("".join(lines).encode())
