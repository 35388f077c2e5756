"""`acme.no-urls`: answers that point elsewhere teach a model to make addresses up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from fttool.api import Example, Filter, FilterContext, RowFilter

URL = re.compile(r"\b(https?://|www\.)\S", re.IGNORECASE)


class NoUrls(Filter):
    """Drop rows with a web address, since a small model learns to write addresses that do not exist."""

    name: Literal["acme.no-urls"] = "acme.no-urls"
    where: Literal["answer", "anywhere"] = "answer"
    """Which text is searched: what is learned, or the prompt too."""

    def build(self, ctx: FilterContext) -> RowFilter:
        """Yield the filter."""
        return lambda examples: with_urls(examples, anywhere=self.where == "anywhere")


def with_urls(examples: Sequence[Example], *, anywhere: bool) -> list[str | None]:
    """One entry per example: a reason where its text has a web address, else None."""
    return ["has a web address" if URL.search(_text(example, anywhere)) else None for example in examples]


def _text(example: Example, anywhere: bool) -> str:
    if not anywhere:
        return example.answer()
    turns = [str(message.get("content") or "") for message in example.messages]
    return "\n".join([*turns, example.prompt, example.second, example.completion])
