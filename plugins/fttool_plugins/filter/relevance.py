"""`relevance`: drop or flag rows whose answer has nothing to do with its prompt.

Such rows come of a join that slipped by a line, and of pages whose parts were taken for question and answer. A model
learns from them to ignore what it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Example, Filter, FilterContext, Kept, Reason, RowFilter, Verdict
from fttool_plugins.filter.encoders import MINILM
from fttool_plugins.filter.overlap import question
from fttool_plugins.filter.parts import part_text


class Relevance(Filter):
    """Drop or flag rows whose answer does not go with its prompt.

    By words: the prompt's rarer words hardly occur in the answer, where those of most rows do. That finds answers that
    belong to another question, and takes no time; it knows no synonyms, so it is only asked where answers speak of what
    they were asked: with a dataset of which half the rows repeat little of their prompts it keeps everything and says
    nothing, and an answer of less than `shortest` words is kept.

    By model: the recipe's model finds the answer no likelier with its prompt than without. That knows synonyms, as far
    as the model does, and needs a pass over each row, twice; a model that is small, or has not seen the language, finds
    every answer about as likely without the prompt.

    By embeddings: a sentence encoder finds the answer hardly nearer to its prompt than to prompts of other rows. That
    knows synonyms, takes a fraction of a larger model's time, and needs rows that ask different things: where the
    middle row's answer is not clearly nearest to its own prompt, it keeps everything and says nothing. The encoder that
    is named by default knows English; it reads 256 tokens of a text. Of 300 answers about Python, 15 of which had
    changed places, it finds these 15 and no other.

    None of them knows whether an answer is right. A row with several turns is judged by its last question and all that
    is learned of it. Rows with classes and rows without a prompt are kept.

    Cost: by words about 0.2 ms a row; by embeddings about 40 ms of a slow core for a row of 100 tokens; by model two
    forward passes on the CPU for it, about two seconds with 135 million parameters, and what was computed is kept for
    the next run.
    """

    name: Literal["relevance"] = "relevance"
    by: Literal["words", "embeddings", "model"] = "words"
    """What judges."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """By words: share of the prompt's words, weighed by how rare they are, that an answer must have; and twice as much
    is what the middle row must have for any to be judged."""
    shortest: Annotated[int, Field(ge=1)] = 5
    """By words: fewest words of an answer that is judged."""
    nearer: Annotated[float, Field(ge=0, le=1)] = 0.95
    """By embeddings: share of other rows' prompts that an answer must be less near to than to its own."""
    encoder: str = MINILM
    """By embeddings: a sentence encoder whose vectors are means of its tokens', as `package:NAME` (of an installed
    package; the default is the extra `fttool[minilm]`), a folder, or a hub id."""
    gain: float = 0.05
    """By model: nats that the prompt must take off the mean loss of an answer's tokens. Of eight answers to other
    questions SmolLM2-135M finds five at 0.05, six at 0.4 and all at 0.6, and suspects none of ten good ones, whose
    gains are 0.8 to 2.1; short answers, and those that a model knows by heart, gain less."""
    longest: Annotated[int, Field(ge=8)] = 256
    """By model: tokens of the prompt's end and of the answer's beginning that are looked at."""
    action: Literal["drop", "flag"] = "drop"
    """What becomes of such a row: dropped, or only counted."""

    @property
    @override
    def slow(self) -> bool:
        return self.by != "words"

    @override
    def build(self, ctx: FilterContext) -> RowFilter:
        def decide(examples: Sequence[Example]) -> list[Verdict]:
            asked = [place for place, one in enumerate(examples) if one.labels is None and question(one)]
            rows = [examples[place] for place in asked]
            judge = {"words": self._by_words, "embeddings": self._by_embeddings, "model": self._by_model}[self.by]
            found = judge(rows, ctx)
            verdicts: list[Verdict] = [None] * len(examples)
            for place, severity in zip(asked, found, strict=True):
                if severity is not None:
                    reason = Reason("its answer does not go with its prompt", severity=severity)
                    verdicts[place] = Kept(reason) if self.action == "flag" else reason
            return verdicts

        return decide

    def _by_words(self, rows: Sequence[Example], ctx: FilterContext) -> list[float | None]:
        from fttool_plugins.filter.shared_words import covered, word_set, words

        def read(row: Example) -> tuple[Any, Any, int]:
            prompt, answer = words(question(row)), words(part_text(row, "answer"))
            return word_set(prompt), word_set(answer), len(answer)

        found = list(ctx.each(read, rows, "comparing answers with prompts"))
        shares = covered([prompt for prompt, _, _ in found], [answer for _, answer, _ in found])
        judged = [length >= self.shortest for _, _, length in found]
        known = [share for share, is_judged in zip(shares, judged, strict=True) if is_judged]
        if not known or median(known) < 2 * self.share:
            return [None] * len(rows)
        pairs = zip(shares, judged, strict=True)
        return [1 - share if is_judged and share < self.share else None for share, is_judged in pairs]

    def _by_embeddings(self, rows: Sequence[Example], ctx: FilterContext) -> list[float | None]:
        from fttool_plugins.filter import sentence_encoder

        prompts = sentence_encoder.embedded([question(row) for row in rows], self.encoder, ctx)
        answers = sentence_encoder.embedded([part_text(row, "answer") for row in rows], self.encoder, ctx)
        shares = sentence_encoder.nearer(prompts, answers, ctx.seed)
        if not len(rows) or median(shares) < (1 + self.nearer) / 2:
            return [None] * len(rows)
        return [1 - float(share) if share < self.nearer else None for share in shares]

    def _by_model(self, rows: Sequence[Example], ctx: FilterContext) -> list[float | None]:
        from fttool_plugins.filter.answer_loss import answer_losses

        alone = answer_losses(rows, ctx, prompted=False, longest=self.longest)
        prompted = answer_losses(rows, ctx, prompted=True, longest=self.longest)
        gains = [
            None if without is None or loss is None else without - loss
            for without, loss in zip(alone, prompted, strict=True)
        ]
        return [None if gain is None or gain >= self.gain else -gain for gain in gains]
