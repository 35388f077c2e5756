"""`acme.repetitive`: an answer that says one thing over and over teaches a model to do the same."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from fttool.api import Example, Filter, FilterContext, RowFilter

SHORTEST = 100
"""Characters of an answer that is judged: zlib's own bytes outweigh what it saves on shorter ones."""


class Repetitive(Filter):
    """Drop rows whose answers zlib makes much shorter, as they repeat themselves."""

    name: Literal["acme.repetitive"] = "acme.repetitive"
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Compressed bytes over bytes, below which a row is dropped."""

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield the filter; what it has computed waits in its folder for the next run."""
        file = ctx.cache() / "ratios.json"

        def decide(examples: Sequence[Example]) -> list[str | None]:
            ratios: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
            verdicts: list[str | None] = []
            for example in ctx.track(examples, "compressing answers"):
                text = example.answer().encode("utf-8")
                key = hashlib.sha256(text).hexdigest()
                if key not in ratios:
                    ratios[key] = compressed(text)
                verdicts.append("repeats itself" if ratios[key] < self.ratio else None)
            file.write_text(json.dumps(ratios))
            return verdicts

        return decide


def compressed(text: bytes) -> float:
    """Bytes that zlib leaves of each; 1 for a text that is too short to say."""
    return 1.0 if len(text) < SHORTEST else len(zlib.compress(text)) / len(text)
