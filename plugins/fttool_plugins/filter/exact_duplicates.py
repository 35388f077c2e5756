"""`exact-duplicates`: keep the first of rows that are the same.

Duplicates in the training data are memorised and cost steps: Lee et al. 2022, "Deduplicating Training Data Makes
Language Models Better", arXiv 2107.06499.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Reason, RowFilter
from fttool_plugins.filter.parts import Part


class ExactDuplicates(Filter):
    """Keep the first of rows that are the same, character for character, over all training datasets."""

    name: Literal["exact-duplicates"] = "exact-duplicates"
    compare: Part = "row"
    """What must be the same: all that the model would see (`row`), what comes before the completion (`prompt`; rows
    without a prompt are kept), or what is learned (`answer`). Of rows with classes `row` is the text and the classes,
    and `prompt` and `answer` are the text."""

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: find_duplicates(examples, self.compare)


def find_duplicates(examples: Sequence[Example], compare: Part) -> list[str | None]:
    """One entry per example: None for the first of its kind, else the reason to drop it."""
    seen: dict[bytes, str] = {}
    reasons: list[str | None] = []
    for example in examples:
        part = compared_part(example, compare)
        if part is None:
            reasons.append(None)
            continue
        # 16 bytes a row instead of its text; two of a million rows agree by chance once in 10^26
        digest = hashlib.blake2b(part.encode(), digest_size=16).digest()
        first = seen.get(digest)
        reasons.append(None if first is None else Reason(f"same {compare} as an earlier row", like=first))
        seen.setdefault(digest, example.origin)
    return reasons


def compared_part(example: Example, compare: Part) -> str | None:
    """What two rows must share to be duplicates, as text; None where the row has no such part."""
    seen: dict[str, Any]
    if compare == "answer":
        seen = {"answer": example.answer()}
    elif compare == "prompt":
        seen = {"messages": example.messages[: example.completion_from], "prompt": example.prompt}
        seen |= {"second": example.second} if example.second else {}
        if not any(seen.values()):
            return None
    else:
        seen = {
            "messages": example.messages,
            "prompt": example.prompt,
            "completion": example.completion,
            "template": example.template,
            "second": example.second,
            "labels": example.labels,
        }
    return json.dumps(seen, sort_keys=True, default=str)
