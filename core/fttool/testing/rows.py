"""What holds for the strategies that work on rows: filters, masking."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from fttool.contracts.model import Source
from fttool.contracts.rows import (
    Encoded,
    Example,
    FilterContext,
    Kept,
    MaskingContext,
    RowEncoder,
    RowFilter,
)
from fttool.testing.contract import Contract
from fttool.testing.formats import learns_labels
from fttool.testing.tiny import tiny_examples, tiny_labelled, tiny_model, tiny_tagged, tiny_tokenizer


def filter_context(**changes: Any) -> FilterContext:
    """The context of a recipe over the tiny tokenizer, with `tiny_examples()[0]` as its evaluation row.

    `changes` replace fields.
    """
    from fttool.rows.prompts import whole_length

    tokenizer, first = tiny_tokenizer(), tiny_examples()[0]
    context = FilterContext(
        seed=17,
        folder=Path(),
        tokenizer=tokenizer,
        tokens=lambda example: whole_length(example, tokenizer),
        measured=lambda example: (example.messages, example.prompt) == (first.messages, first.prompt),
        source=lambda: Source(tokenizer=tiny_tokenizer, model=lambda load: tiny_model(), origin={"model": "tiny"}),
        cache=lambda: Path(tempfile.mkdtemp()),
        track=lambda items, what: items,
    )
    return replace(context, **changes)


class FilterContract(Contract):
    """A filter: one verdict per row, which keeps it, drops it for a short reason, or keeps it changed or flagged."""

    @override
    def context(self) -> FilterContext:
        """The tiny tokenizer; the first row is one that is measured on too."""
        return filter_context()

    def examples(self) -> Sequence[Example]:
        """The rows that it judges."""
        return tiny_examples()

    @override
    def outcome(self, built: RowFilter) -> Any:
        return list(built(self.examples()))

    def test_every_row_gets_an_answer(self, instance: Any) -> None:
        """A verdict, whose reason is a few words that head a count; the rows that it was given stay as they are."""
        rows = self.examples()
        before = copy.deepcopy(rows)
        answers = instance.build(self.context())(rows)
        assert len(answers) == len(rows)
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, Kept) and answer.example is not None:
                assert answer.example.origin == row.origin, "a changed row keeps its origin"
                assert answer.example != row, "a row is changed into itself"
            reason = answer.reason if isinstance(answer, Kept) else answer
            if reason is not None:
                assert isinstance(reason, str)
                assert 0 < len(reason) <= 80 and "\n" not in reason, "a reason is a few words: it heads a count"
        assert rows == before, "the rows were changed"

    def test_no_rows_get_no_answers(self, instance: Any) -> None:
        """An empty dataset is not an error."""
        assert list(instance.build(self.context())([])) == []


class MaskingContract(Contract):
    """Masking: a label is the token's own id or −100; the first token, which nothing predicts, has none. Where classes
    are learned, no token is.
    """

    @override
    def context(self) -> MaskingContext:
        return MaskingContext(tokenizer=tiny_tokenizer())

    def examples(self) -> Sequence[Example]:
        """The rows that it encodes; a strategy may refuse some of them with a `ValueError`, but not all."""
        if self.strategy.level == "word":
            return tiny_tagged()
        return tiny_labelled() if learns_labels(self.strategy) else tiny_examples()

    @override
    def outcome(self, built: RowEncoder) -> Any:
        """Tokens and labels of every row that is not refused."""
        return [(row.input_ids, row.labels) for row in self._encoded(built)]

    def _encoded(self, encode: RowEncoder) -> list[Encoded]:
        return [row for _, row in self._pairs(encode)]

    def _pairs(self, encode: RowEncoder) -> list[tuple[Example, Encoded]]:
        pairs: list[tuple[Example, Encoded]] = []
        for example in self.examples():
            try:
                pairs.append((example, encode(example)))
            except ValueError as refused:
                assert len(str(refused).split()) > 2, "a refusal is a sentence"
        return pairs

    def test_labels_are_tokens_or_nothing(self, instance: Any) -> None:
        """The token's own id or −100, never shifted; the first is −100, and something is learned."""
        rows = self._encoded(instance.build(self.context()))
        assert rows, "every row is refused"
        for row in rows:
            assert len(row.input_ids) == len(row.labels) > 0
            assert all(label in (-100, token) for token, label in zip(row.input_ids, row.labels, strict=True))
            assert row.labels[0] == -100
            learns_classes = learns_labels(self.strategy)
            assert (row.classes is not None) == learns_classes, "level says whether classes are learned"
            assert (set(row.labels) == {-100}) == learns_classes, "either tokens are learned or classes"
            assert (row.words is not None) == (self.strategy.level == "word"), "level is word where words have classes"
            if row.words is not None:
                assert len(row.words) == len(row.input_ids)
                assert {*row.words} - {-1} == {*range(len(row.classes or ()))}, "each class has a token, each token one"
            assert row.token_types is None or len(row.token_types) == len(row.input_ids)

    def test_a_turn_that_is_marked_is_not_learned(self, instance: Any) -> None:
        """No token of it, whichever turn it is; a strategy may refuse such rows with a `ValueError`."""
        if learns_labels(self.strategy):
            return
        tokenizer, encode = self.context().tokenizer, instance.build(self.context())
        for marked, words in ((1, "QQQQ"), (3, "XXXX")):
            turns = [{"role": "user" if index % 2 == 0 else "assistant", "content": "Answer: ok"} for index in range(4)]
            turns[marked] = {"role": "assistant", "content": f"Answer: {words}"}
            example = Example(origin="1", messages=tuple(turns), completion_from=3, unlearned=frozenset({marked}))
            try:
                row = encode(example)
            except ValueError as refused:
                assert len(str(refused).split()) > 2, "a refusal is a sentence"
                continue
            learned = tokenizer.decode([label for label in row.labels if label != -100])
            assert words[0] not in learned, f"a turn that is not to be learned is: {learned!r}"

    def test_it_says_whether_it_keeps_control_tokens(self, instance: Any) -> None:
        """`keeps_control_tokens` where classes are learned: a classifier is asked with texts as it was trained on."""
        if not learns_labels(self.strategy):
            return
        tokenizer: Any = self.context().tokenizer
        encode, control = instance.build(self.context()), tokenizer.all_special_tokens[-1]
        number = tokenizer.convert_tokens_to_ids(control)
        words = self.strategy.level == "word"
        plain, hostile = (
            Example(origin="1", prompt=text, labels=("x",), words=((0, len(text)),) if words else ())
            for text in ("ab", f"a{control}b")
        )
        try:
            more = encode(hostile).input_ids.count(number) - encode(plain).input_ids.count(number)
        except ValueError:
            more = 0
        assert bool(more) == instance.keeps_control_tokens, "keeps_control_tokens says otherwise"

    def test_it_says_what_it_cuts(self, instance: Any) -> None:
        """A row that masking itself cuts has `max_length` tokens at most; one that it does not cut is as ever."""
        uncut = {example.origin: row for example, row in self._pairs(instance.build(self.context()))}
        for example, row in self._pairs(instance.build(replace(self.context(), max_length=12))):
            if row.cut:
                assert len(row.input_ids) <= 12 < len(uncut[example.origin].input_ids)
                of_all = uncut[example.origin].classes
                assert row.classes == (of_all if row.words is None or of_all is None else of_all[: max(row.words) + 1])
                lost = len(of_all or ()) - len(row.classes or ())
                tokens = len(uncut[example.origin].input_ids) - len(row.input_ids)
                words = {"words": lost} if lost else {}
                assert row.lost == {"tokens": tokens, **words}, "lost says what the cut has taken"
            else:
                assert row == uncut[example.origin]

    def test_the_text_is_the_whole_row(self, instance: Any) -> None:
        """No content is lost between the row and its tokens."""
        tokenizer = self.context().tokenizer
        encode = instance.build(self.context())
        for example in self.examples():
            try:
                text = tokenizer.decode(encode(example).input_ids)
            except ValueError:
                continue
            for message in example.messages:
                assert message["content"].strip() in text
            assert all(part.strip() in text for part in (example.prompt, example.second, example.completion))
