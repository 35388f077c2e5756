"""`lisa`: n layers at a time, sampled by seed and period alone."""

from collections import Counter
from itertools import combinations

import pytest

from fttool.api import ALWAYS, ModelError, TrainableUnit
from fttool_plugins.freezing.lisa import Lisa, sampled, turns

from .contexts import EMBEDDINGS, HEAD, NORM, layer, llama, units


def training(found: list[TrainableUnit], update: int) -> set[int]:
    """The layers that train in an update."""
    names = {name for unit in found if any(update in turn for turn in unit.trains_in) for name in unit.parameters}
    return {number for number in range(4) if layer(number) <= names}


@pytest.mark.parametrize(("n", "every", "total"), [(1, 1, 12), (2, 5, 23), (3, 20, 50), (4, 2, 4)])
def test_n_layers_train_in_every_update_and_change_only_between_periods(n: int, every: int, total: int) -> None:
    found = units(Lisa(n=n, every=every), total_steps=total)
    by_update = [training(found, update) for update in range(total)]
    assert {len(layers) for layers in by_update} == {n}
    for update in range(1, total):
        assert update % every == 0 or by_update[update] == by_update[update - 1]
    assert training(found, total) == set()


def test_embeddings_norm_and_head_always_train() -> None:
    always, *others = units(Lisa())
    assert always.parameters == {EMBEDDINGS, NORM, HEAD}
    assert always.trains_in == ALWAYS
    assert [set(unit.parameters) for unit in others] == [layer(number) for number in range(4)]
    tied, *_ = units(Lisa(), llama(tie_word_embeddings=True))
    assert tied.parameters == {EMBEDDINGS, NORM}


def test_a_draw_depends_on_seed_and_period_alone() -> None:
    """Known values: a resumed run, another machine and a later version draw the same."""
    assert [sampled(period, layers=32, n=2, seed=17) for period in range(4)] == [
        [0, 29],
        [0, 10],
        [20, 8],
        [16, 13],
    ]
    assert units(Lisa(every=2), seed=1) == units(Lisa(every=2), seed=1) != units(Lisa(every=2), seed=2)
    long, short = (units(Lisa(every=2), total_steps=total) for total in (40, 13))
    assert all(training(long, update) == training(short, update) for update in range(13))


def test_every_pair_is_drawn_equally_often() -> None:
    """Without replacement, and no layer preferred: χ² over the 28 pairs of 8 layers, 27 degrees of freedom."""
    draws = 5600
    met = Counter(tuple(sorted(sampled(period, layers=8, n=2, seed=0))) for period in range(draws))
    assert set(met) == set(combinations(range(8), 2))
    expected = draws / 28
    assert sum((count - expected) ** 2 / expected for count in met.values()) < 55.5  # p = 0.001


def test_stretches_are_apart_and_end_with_the_run() -> None:
    assert turns([0, 1, 3], every=5, total=18) == (range(10), range(15, 18))
    assert turns([2], every=5, total=100) == (range(10, 15),)
    assert turns([], every=5, total=18) == ()


def test_a_layer_that_is_never_drawn_has_no_turn() -> None:
    found = units(Lisa(n=1, every=20), total_steps=12)
    assert sorted(len(unit.trains_in) for unit in found) == [0, 0, 0, 1, 1]


def test_more_layers_than_there_are_is_refused_with_their_number() -> None:
    with pytest.raises(ModelError, match=r"freezing\.n is 5, and LlamaForCausalLM has 4 layers"):
        units(Lisa(n=5))
