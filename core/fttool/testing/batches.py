"""What holds for the strategies that make micro-batches of rows: mixing, batching."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

from typing_extensions import override

from fttool.contracts.batches import Batches, BatchingContext, MixingContext, RowOrder
from fttool.contracts.rows import Encoded
from fttool.testing.contract import Contract


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
