"""`diversity`: keep the `keep` rows that are the most different from each other.

Of a thousand rows that ask the same thing ten teach as much. k-center greedy (Gonzalez 1985; Sener and Savarese 2018,
"Active Learning for Convolutional Neural Networks: A Core-Set Approach", arXiv 1708.00489) takes row after row the one
that is farthest from all that are taken, so that no row is far from one of them, and no cluster is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, RowFilter, Verdict
from fttool_plugins.filter.encoders import MINILM
from fttool_plugins.filter.parts import Part, part_text


class Diversity(Filter):
    """Keep a number of rows, the most different ones: each cluster of rows keeps one before any keeps a second.

    How different two rows are is told by their pieces of three characters, so by words and not by meaning; or, by
    embeddings, by the vectors of a sentence encoder, to which the same question in other words is one question.

    Rows unlike all others are taken first, and errors often are: let filters for those stand before this one.

    Cost: about `keep` × 1 µs a row, and 1 kilobyte a row: 10,000 rows of 100,000 take a quarter of an hour. Embeddings
    take about 10 ms more for a text of 30 tokens, on a slow core.
    """

    name: Literal["diversity"] = "diversity"
    keep: Annotated[int, Field(ge=1)] = 10_000
    """Rows that are kept; all, where there are no more."""
    compare: Part = "prompt"
    """What must differ: what is asked (`prompt`), what is learned (`answer`), or all that is said (`row`). Rows without
    the part are taken for alike."""

    by: Literal["words", "embeddings"] = "words"
    """What tells how different two rows are."""
    encoder: str = MINILM
    """By embeddings: a sentence encoder whose vectors are means of its tokens', as `package:NAME` (of an installed
    package; the default is the extra `fttool[minilm]`), a folder, or a hub id."""

    @property
    @override
    def slow(self) -> bool:
        return self.by == "embeddings"

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            if len(examples) <= self.keep:
                return [None] * len(examples)
            from fttool_plugins.filter.k_center import k_center, sketches

            texts = [part_text(example, self.compare) for example in examples]
            vectors = sketches(texts) if self.by == "words" else self._embedded(texts, ctx)
            taken = set(k_center(vectors, self.keep, ctx.seed, ctx.track))
            return [None if place in taken else "like a row that is kept" for place in range(len(examples))]

        return decide

    def _embedded(self, texts: Sequence[str], ctx: FilterContext) -> Any:
        from fttool_plugins.filter.sentence_encoder import embedded

        return embedded(texts, self.encoder, ctx)
