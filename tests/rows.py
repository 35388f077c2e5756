"""Files of rows that tests write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_talks(path: Path, count: int, question: str = "Row", answer: str = "ha ", lengths: int = 23) -> Path:
    """Conversations of a question and an answer, which is 1 to `lengths` words long."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        words = answer * (1 + number * 7 % lengths)
        turns = [{"role": "user", "content": f"{question} {number}?"}, {"role": "assistant", "content": words}]
        rows.append({"messages": turns})
    return write_rows(path, rows)
