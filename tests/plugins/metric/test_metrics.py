"""The built-in metrics: their values, and that batches of any size add up to the same."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from fttool.api import Metric, MetricContext, Predictions
from fttool_plugins.metric import fttool_strategies
from fttool_plugins.metric.loss import Loss
from fttool_plugins.metric.perplexity import Perplexity
from fttool_plugins.metric.token_accuracy import TokenAccuracy

EVERY = [Loss, Perplexity, TokenAccuracy]


def predictions(count: int = 30, vocabulary: int = 5, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    logits_NV = torch.randn(count, vocabulary, generator=generator)
    targets_N = torch.randint(vocabulary, (count,), generator=generator)
    losses_N = cross_entropy(logits_NV, targets_N, reduction="none")
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N)


def cut(whole: Predictions, *sizes: int) -> list[Predictions]:
    parts = [torch.split(t, sizes) for t in (whole.logits_NV, whole.targets_N, whole.losses_N)]
    return [Predictions(logits_NV=a, targets_N=b, losses_N=c) for a, b, c in zip(*parts, strict=True)]


def value(metric: Metric, batches: list[Predictions]) -> float:
    measure = metric.build(MetricContext())
    counted = [measure.statistics(batch) for batch in batches]
    assert all(one.dtype == torch.float64 and one.shape == counted[0].shape for one in counted)
    return measure.value(torch.stack(counted).sum(dim=0))


def test_the_room_lists_them():
    of_entities = ["entity-f1", "entity-precision", "entity-recall"]
    of_numbers = ["pearson", "spearman", "mse"]
    of_answers = ["exact-match", "answer-f1", "rouge-l", "json-valid"]
    ids = ["loss", "perplexity", "token-accuracy", "accuracy", "macro-f1", *of_entities, *of_numbers, *of_answers]
    assert [strategy.id() for strategy in fttool_strategies()] == ids
    lower = {strategy.id() for strategy in fttool_strategies() if not strategy.greater_is_better}
    assert lower == {"loss", "perplexity", "mse"}


def test_loss_is_the_mean_over_tokens():
    whole = predictions()
    expected = float(cross_entropy(whole.logits_NV.double(), whole.targets_N))
    assert value(Loss(), [whole]) == pytest.approx(expected, rel=1e-6)


def test_perplexity_is_the_exponential_of_the_loss():
    whole = predictions()
    assert value(Perplexity(), [whole]) == pytest.approx(math.exp(value(Loss(), [whole])), rel=1e-12)


def test_perplexity_of_an_even_guess_is_the_size_of_the_vocabulary():
    losses_N = torch.full((4,), math.log(7.0))
    even = Predictions(logits_NV=torch.zeros(4, 7), targets_N=torch.zeros(4, dtype=torch.long), losses_N=losses_N)
    assert value(Perplexity(), [even]) == pytest.approx(7.0, rel=1e-6)


def test_perplexity_of_a_broken_model_is_infinite():
    losses_N = torch.full((4,), 1e4)
    bad = Predictions(logits_NV=torch.zeros(4, 7), targets_N=torch.zeros(4, dtype=torch.long), losses_N=losses_N)
    assert value(Perplexity(), [bad]) == math.inf


def test_token_accuracy_counts_first_choices():
    logits_NV = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0], [9.0, 1.0, 0.0]])
    targets_N = torch.tensor([0, 1, 1, 2])
    whole = Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=torch.zeros(4))
    assert value(TokenAccuracy(), [whole]) == 0.5


@pytest.mark.parametrize("metric", EVERY)
def test_batches_of_unlike_size_give_the_same_as_one(metric):
    """A mean of the batches' means would be off here, by more than the tolerance."""
    whole = predictions()
    assert value(metric(), cut(whole, 1, 20, 9)) == pytest.approx(value(metric(), [whole]), rel=1e-12)


@pytest.mark.parametrize("metric", EVERY)
def test_a_batch_without_learned_tokens_adds_nothing(metric):
    whole = predictions()
    assert value(metric(), [*cut(whole, 0, 30), *cut(whole, 0, 30)[:1]]) == value(metric(), [whole])
