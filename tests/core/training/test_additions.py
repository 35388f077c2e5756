"""What regularizers add to a loss: named, weighted, computed in each micro-batch; refused where it is wrong."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import distribute_tensor

from fttool.api import MicroBatch, PluginError, Predictions, Regularization, Regularizer, RegularizerContext
from fttool.testing import tiny_batch, tiny_model, tiny_score
from fttool.testing.tiny import tiny_encoded
from fttool.training.additions import Additions, micro_batch


class Mine(Regularizer):
    """Never built."""

    name: Literal["acme.mine"] = "acme.mine"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Never asked."""
        raise AssertionError


def additions(*yielded: Regularization) -> Additions:
    return Additions([Mine() for _ in yielded], yielded, varies=False)


def batch(*rows: int) -> tuple[dict[str, Any], Predictions]:
    made = {**tiny_batch([tiny_encoded()[row] for row in rows or (0,)]), "rows": [(row,) for row in rows]}
    inputs = {name: value for name, value in made.items() if name != "rows"}
    return made, tiny_score(tiny_model(), inputs)


def terms(found: Additions, *rows: int, share: float = 0.25) -> list[tuple[str, float, float]]:
    made, predictions = batch(*rows)
    some = micro_batch(made, made["rows"], update=0)
    return [
        (name, term.item(), float(part)) for name, term, part in found.terms(tiny_model(), some, predictions, share)
    ]


def mean(_: Any, __: MicroBatch, predictions: Predictions) -> torch.Tensor:
    return predictions.logits_NV.mean()


def test_each_has_a_name_of_its_own() -> None:
    found = additions(Regularization(loss=mean), Regularization(), Regularization(loss=mean))
    found.begin(found.counts([], 0))
    assert [(name, share) for name, _, share in terms(found, 0)] == [("acme.mine", 0.25), ("acme.mine.2", 0.25)]


def test_a_loss_counts_by_its_own_items_among_those_of_the_update() -> None:
    """Twice as many for each row as its number, over micro-batches and other processes."""
    own = Regularization(loss=mean, items=lambda some: sum(2 * row for row in some.rows))
    found = additions(Regularization(loss=mean), own)
    assert found.counts([batch(0, 1)[0], batch(2)[0], batch()[0]], 0) == [6]
    found.begin([6 + 10])
    assert [share for _, __, share in terms(found, 0, 1)] == [0.25, 2 / 16]
    assert [share for _, __, share in terms(found, 2)] == [0.25, 4 / 16]


def test_what_is_not_learned_from_is_computed_and_counts_nothing() -> None:
    found = additions(Regularization(loss=mean, items=lambda some: 1 + len(some.rows)))
    assert found.counts([batch()[0]], 0) == [0]
    found.begin([0])
    [(_, value, share)] = terms(found)
    assert value != 0 and share == 0


def test_a_micro_batch_is_what_the_score_gets() -> None:
    """Its tensors and numbers; rows of packed sequences one after the other."""
    ids = torch.tensor([[1, 2]])
    made = {"input_ids": ids, "max_length_q": 2, "places": "not a tensor", "rows": [(3, 1), (2,)]}
    some = micro_batch(made, made["rows"], update=5)
    assert some == MicroBatch(inputs={"input_ids": ids, "max_length_q": 2}, rows=[3, 1, 2], update=5)


# -- weights in shares -----------------------------------------------------------------------------------------------


@pytest.fixture
def in_shares() -> Generator[Any]:
    """A model whose head is a `DTensor`, as FSDP2 leaves it between forward passes."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model: Any = tiny_model()
        shared = distribute_tensor(model.lm_head.weight.detach(), init_device_mesh("cpu", (1,)))
        model.lm_head.weight = torch.nn.Parameter(shared)
        yield model
    finally:
        dist.destroy_process_group()


def test_a_loss_over_sharded_weights_is_refused(in_shares: Any) -> None:
    """Each process would pull its own share by its own part of the labels."""
    found = additions(Regularization(loss=lambda model, *_: model.lm_head.weight.square().sum()))
    found.begin([])
    made, predictions = batch(0)
    some = micro_batch(made, made["rows"], update=0)
    with pytest.raises(PluginError, match="each process holds a share") as refused:
        list(found.terms(in_shares, some, predictions, 1.0))
    assert "Regularization.pulls" in str(refused.value)


def test_a_loss_over_what_such_a_model_said_is_not_refused(in_shares: Any) -> None:
    found = additions(Regularization(loss=mean))
    found.begin([])
    made, predictions = batch(0)
    some = micro_batch(made, made["rows"], update=0)
    [(_, term, share)] = found.terms(in_shares, some, predictions, 1.0)
    assert term.requires_grad and share == 1.0
