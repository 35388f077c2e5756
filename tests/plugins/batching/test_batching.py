"""Every row once per epoch, little padding, and packs that keep their rows apart."""

import random
from collections.abc import Sequence

import pytest
import torch

from fttool.api import Batches, BatchingContext, Encoded
from fttool_plugins.batching.bucketed import Bucketed
from fttool_plugins.batching.packed import Packed, best_fit_decreasing
from fttool_plugins.batching.padded import Padded

LENGTHS = random.Random(3).choices(range(3, 41), k=103)


def built(strategy: Padded | Bucketed | Packed, micro_batch: int, global_batch: int = 8) -> Batches:
    context = BatchingContext(lengths=LENGTHS, micro_batch=micro_batch, global_batch=global_batch, pad_id=0, seed=1)
    return strategy.build(context)


def rows_of(plan: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    return sorted(row for micro in plan for group in micro for row in group)


STRATEGIES = [Padded(), Bucketed(), Bucketed(pool=2), Packed(max_length=64)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_each_row_stands_in_an_epoch_once(strategy: Bucketed, micro_batch: int) -> None:
    batches = built(strategy, micro_batch)
    order = list(range(len(LENGTHS)))
    sizes = set()
    for epoch in range(3):
        random.Random(epoch).shuffle(order)
        plan = batches.plan(order, epoch)
        assert rows_of(plan) == list(range(len(LENGTHS)))
        assert all(1 <= len(micro) <= micro_batch for micro in plan)
        sizes.add(len(plan))
    assert len(sizes) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_update_holds_the_same_rows_whatever_the_accumulation(strategy: Bucketed) -> None:
    def updates(micro_batch: int) -> list[list[int]]:
        plan = built(strategy, micro_batch).plan(range(len(LENGTHS)), 0)
        per_update = 8 // micro_batch
        return [rows_of(plan[start : start + per_update]) for start in range(0, len(plan), per_update)]

    assert updates(1) == updates(2) == updates(8)


def test_padded_keeps_the_order() -> None:
    order = random.Random(5).sample(range(len(LENGTHS)), len(LENGTHS))
    plan = built(Padded(), 4).plan(order, 0)
    assert [row for micro in plan for group in micro for row in group] == order


def test_bucketed_pads_far_less_than_padded() -> None:
    def padding(strategy: Padded | Bucketed) -> float:
        plan = built(strategy, 8).plan(range(len(LENGTHS)), 0)
        slots = sum(len(micro) * max(LENGTHS[row] for (row,) in micro) for micro in plan)
        return 1 - sum(LENGTHS) / slots

    assert padding(Bucketed()) < 0.12 < 0.3 < padding(Padded())


def test_bucketed_epochs_differ_but_are_reproducible() -> None:
    batches = built(Bucketed(), 8)
    order = range(len(LENGTHS))
    assert batches.plan(order, 0) == built(Bucketed(), 8).plan(order, 0)
    assert batches.plan(order, 0) != batches.plan(order, 1)


def naive_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The textbook algorithm: try every pack, take the fullest that has room."""
    packs: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        room = [capacity - sum(lengths[other] for other in pack) for pack in packs]
        fitting = [index for index, left in enumerate(room) if left >= lengths[row]]
        if fitting:
            packs[min(fitting, key=lambda index: room[index])].append(row)
        else:
            packs.append([row])
    return packs


def test_packing_is_best_fit_decreasing() -> None:
    packs = best_fit_decreasing(range(len(LENGTHS)), LENGTHS, 64)
    naive = naive_best_fit(LENGTHS, 64)
    filled = sorted(sum(LENGTHS[row] for row in pack) for pack in packs)
    assert filled == sorted(sum(LENGTHS[row] for row in pack) for pack in naive)
    assert max(filled) <= 64 and sum(filled) / (64 * len(packs)) > 0.95


@pytest.mark.parametrize("micro_batch", [1, 4])
@pytest.mark.parametrize("kind", ["chat", "uniform", "few long", "all long", "short"])
def test_packing_leaves_two_percent_of_padding_at_most(kind: str, micro_batch: int) -> None:
    draw = random.Random(kind)
    lengths = {
        "chat": [min(1024, max(4, int(draw.lognormvariate(5, 0.9)))) for _ in range(2_000)],
        "uniform": [draw.randint(4, 1024) for _ in range(500)],
        "few long": [draw.randint(20, 80) if draw.random() < 0.8 else draw.randint(600, 1024) for _ in range(600)],
        "all long": [draw.randint(513, 1024) for _ in range(400)],
        "short": [draw.randint(10, 60) for _ in range(2_000)],
    }[kind]
    context = BatchingContext(lengths=lengths, micro_batch=micro_batch, global_batch=8, pad_id=0, seed=1)
    batches = Packed(max_length=1024).build(context)
    plan = batches.plan(range(len(lengths)), 0)
    for epoch in range(2):
        plan = batches.plan(draw.sample(range(len(lengths)), len(lengths)), epoch)
        sizes = [[sum(lengths[row] for row in pack) for pack in micro] for micro in plan]
        assert sum(map(sum, sizes)) / sum(len(micro) * max(micro) for micro in sizes) >= 0.98
        assert rows_of(plan) == list(range(len(lengths)))
    assert batches.plan(range(len(lengths)), 1) == plan != batches.plan(range(len(lengths)), 0)


ROWS = [Encoded([5, 6, 7], [5, 6, 7]), Encoded([8, 9], [-100, 9]), Encoded([3, 4, 2, 1], [-100, -100, 2, 1])]


def test_padded_tensors() -> None:
    batch = built(Padded(), 2).collate([[ROWS[0]], [ROWS[2]]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0], [3, 4, 2, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100], [-100, -100, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_packed_tensors() -> None:
    batch = built(Packed(max_length=6), 2).collate([[ROWS[0], ROWS[1]], [ROWS[2]]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [3, 4, 2, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9], [-100, -100, 2, 1, -100]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    assert "attention_mask" not in batch


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_do_not_see_each_other(attention: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    torch.manual_seed(0)
    config._attn_implementation = attention
    model = LlamaForCausalLM(config).eval()
    batch = built(Packed(max_length=6), 2).collate([[ROWS[0], ROWS[1]], [ROWS[2]]])
    with torch.no_grad():
        packed = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        for row, place in ((ROWS[0], (0, 0)), (ROWS[1], (0, 3)), (ROWS[2], (1, 0))):
            alone = model(input_ids=torch.tensor([row.input_ids])).logits[0]
            sequence, start = place
            torch.testing.assert_close(packed[sequence, start : start + len(row.input_ids)], alone, rtol=0, atol=1e-6)
