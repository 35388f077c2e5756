"""What holds for the strategies that work on rows: filters, mixing, masking, batching; `formats.py` has formats."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from fttool.contracts.batches import Batches, BatchingContext, MixingContext, RowOrder
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
from fttool.testing.tiny import tiny_examples, tiny_labelled, tiny_tagged, tiny_tokenizer


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


class MixingContract(Contract):
    """Mixing: a pure function from the epoch to its rows, of one length, shuffled by the seed."""

    sizes: ClassVar[Sequence[int]] = (30, 12)
    """Rows of each dataset."""
    tokens: ClassVar[Sequence[int]] = (900, 600)
    """Tokens of each dataset."""
    names: ClassVar[Sequence[str]] = ("first", "second")
    """The datasets' names."""
    general_sizes: ClassVar[Sequence[int]] = ()
    """Rows of each general dataset, for a strategy that replays them."""

    @override
    def context(self, seed: int = 17) -> MixingContext:
        """Datasets of `sizes` and `tokens`, with rows of one length in each, and general rows of 25 tokens."""
        lengths = [tokens // size for size, tokens in zip(self.sizes, self.tokens, strict=True) for _ in range(size)]
        return MixingContext(
            sizes=self.sizes,
            tokens=self.tokens,
            seed=seed,
            names=self.names,
            general_sizes=self.general_sizes,
            lengths=[*lengths, *[25] * sum(self.general_sizes)],
        )

    @override
    def outcome(self, built: RowOrder) -> Any:
        return [list(built(epoch)) for epoch in range(2)]

    def test_epochs_are_of_one_length_and_hold_rows(self, instance: Any) -> None:
        """The run's length is known beforehand, and every index is a row."""
        order = instance.build(self.context())
        epochs = [list(order(epoch)) for epoch in range(4)]
        assert len({len(rows) for rows in epochs}) == 1
        assert epochs[0], "an epoch without rows"
        end = sum(self.sizes) + sum(self.general_sizes)
        assert all(type(row) is int and 0 <= row < end for rows in epochs for row in rows)

    def test_it_says_which_rows_an_epoch_has(self, instance: Any) -> None:
        """`uses_general` where general rows are seen, `same_rows` where every epoch has the same."""
        order = instance.build(self.context())
        epochs = [sorted(order(epoch)) for epoch in range(4)]
        met_general = any(row >= sum(self.sizes) for rows in epochs for row in rows)
        assert met_general == instance.uses_general, "uses_general says otherwise"
        assert not instance.same_rows or all(rows == epochs[0] for rows in epochs), "same_rows says otherwise"

    def test_an_epoch_does_not_depend_on_those_before(self, instance: Any) -> None:
        """A resumed run asks for a later epoch first."""
        order = instance.build(self.context())
        forwards = [list(order(epoch)) for epoch in range(3)]
        backwards = [list(order(epoch)) for epoch in reversed(range(3))]
        assert forwards == backwards[::-1]

    def test_seed_and_epoch_shuffle(self, instance: Any) -> None:
        """Another epoch or seed gives another order."""
        order = instance.build(self.context())
        other = instance.build(self.context(seed=18))
        assert list(order(0)) != list(order(1))
        assert list(order(0)) != list(other(0))


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
                assert row.lost == ({"words": lost} if lost else {}), "lost says what the cut has taken"
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


class BatchingContract(Contract):
    """Batching: every row once per epoch, in micro-batches of bounded size, as many in every epoch."""

    lengths: ClassVar[Sequence[int]] = (5, 12, 7, 3, 9, 9, 2, 30, 4, 6, 11, 8, 5, 17, 3, 21, 10)
    """Tokens of each row; none is above the strategy's `max_length`."""

    @override
    def context(self) -> BatchingContext:
        """17 rows, micro-batches of 2, updates of 4."""
        return BatchingContext(lengths=self.lengths, micro_batch=2, global_batch=4, pad_id=0, seed=17)

    def order(self, epoch: int) -> list[int]:
        """The rows of an epoch, shuffled."""
        rows = list(range(len(self.lengths)))
        random.Random(epoch).shuffle(rows)
        return rows

    @override
    def outcome(self, built: Batches) -> Any:
        return [[[list(group) for group in micro] for micro in built.plan(self.order(e), e)] for e in range(2)]

    def test_every_row_once_per_epoch(self, instance: Any) -> None:
        """No row is lost or seen twice."""
        batches = instance.build(self.context())
        for epoch in range(3):
            plan = batches.plan(self.order(epoch), epoch)
            met = [row for micro in plan for group in micro for row in group]
            assert sorted(met) == list(range(len(self.lengths)))

    def test_sizes_are_bounded(self, instance: Any) -> None:
        """At most `micro_batch` sequences, each of at most `max_length` tokens."""
        context = self.context()
        plan = instance.build(context).plan(self.order(0), 0)
        assert all(1 <= len(micro) <= context.micro_batch for micro in plan)
        for micro in plan:
            for group in micro:
                assert sum(self.lengths[row] for row in group) <= max(instance.max_length, *self.lengths)

    def test_epochs_have_as_many_micro_batches(self, instance: Any) -> None:
        """The run's length is known beforehand."""
        batches = instance.build(self.context())
        assert len({len(batches.plan(self.order(epoch), epoch)) for epoch in range(4)}) == 1

    def test_a_plan_does_not_depend_on_those_before(self, instance: Any) -> None:
        """A resumed run asks for a later epoch first."""
        batches = instance.build(self.context())
        first = batches.plan(self.order(1), 1)
        batches.plan(self.order(2), 2)
        assert batches.plan(self.order(1), 1) == first

    def test_micro_batches_become_tensors(self, instance: Any) -> None:
        """Every token arrives once, with its label, but for the first of each row."""
        batches = instance.build(self.context())
        tokens_of = [range(100 * row + 1, 100 * row + 1 + length) for row, length in enumerate(self.lengths)]
        rows = [Encoded(list(tokens), list(tokens)) for tokens in tokens_of]
        for micro in batches.plan(self.order(0), 0):
            tensors = batches.collate([[rows[row] for row in group] for group in micro])
            shapes = {tuple(tensor.shape) for tensor in tensors.values()}
            assert len(shapes) == 1, f"tensors of different shapes: {shapes}"
            assert next(iter(shapes))[0] == len(micro)
            assert "attention_mask" in tensors or "position_ids" in tensors
            tokens = sorted(token for group in micro for row in group for token in rows[row].input_ids)
            learned = sorted(token for group in micro for row in group for token in rows[row].input_ids[1:])
            assert sorted(tensors["input_ids"][tensors["input_ids"] != 0].tolist()) == tokens
            assert sorted(tensors["labels"][tensors["labels"] != -100].tolist()) == learned
            at_label = tensors["labels"] != -100
            assert tensors["labels"][at_label].equal(tensors["input_ids"][at_label])
