"""The proof on a run's own model: models that are right pass, planted faults are found, and nothing is touched."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fttool.contracts.rows import Encoded
from fttool.errors import ModelError
from fttool.proof.assumptions import Assumed, Shape, comparisons
from fttool.proof.probe import Probe
from fttool.testing.tiny import tiny_model
from fttool.training.proof import Proven, prove
from fttool_plugins.batching import collate
from fttool_plugins.task.sft import score

from ...causal import SMALL

CPU = torch.device("cpu")


def rows(*lengths: int) -> list[Encoded]:
    draw = random.Random(0)
    every = [[draw.randrange(3, 97) for _ in range(length)] for length in lengths]
    return [Encoded(ids, [-100, *ids[1:]]) for ids in every]


ROWS = rows(70, 9, 31, 44, 2, 50)


def model(kind: str, **options: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL | options)).train()


def proven(
    of: Any,
    collated: Callable[[Sequence[Sequence[Encoded]], int], Any],
    *,
    packs: int = 1,
    score: Any = score,
    formats: Sequence[torch.dtype] = (torch.float32,),
    rows: Sequence[Encoded] = ROWS,
    sequences: int = 2,
) -> Proven:
    probe = Probe(
        model=of,
        score=score,
        collate=lambda sequences: collated(sequences, 0),
        rows=rows,
        lengths=[len(row.input_ids) for row in rows],
        positions=128,
        device=CPU,
    )
    shape = Shape(sequences=sequences, rows=packs, longest=rows[:packs])
    assumed = Assumed(level="token", causal=True, shape=shape, formats=frozenset(formats))
    return prove(of, CPU, [lambda: comparisons(probe, assumed)])


def broken(found: Proven) -> set[str]:
    return {one.name for one in found.findings if not one.holds}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "mixtral", "mamba", "bloom"])
def test_padded_rows_of_causal_models_are_right(kind: str) -> None:
    assert broken(proven(model(kind), collate.padded)) == set()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "mixtral"])
def test_packed_rows_are_right_where_attention_stays_in_rows(kind: str) -> None:
    found = proven(model(kind), collate.packed, packs=3)
    assert broken(found) == set()
    assert {one.name for one in found.findings} == {
        "context",
        "later",
        "beside",
        "padded",
        "neighbours",
        "packed",
        "longest",
    }


@pytest.mark.parametrize("kind", ["bloom", "opt", "mpt", "mamba", "gpt_oss", "lfm3"])
@pytest.mark.parametrize("half", [False, True])
def test_packed_rows_that_see_each_other_are_found(kind: str, half: bool) -> None:
    of = model(kind)
    found = proven(
        of.bfloat16() if half else of, collate.packed, packs=3, formats=[torch.bfloat16 if half else torch.float32]
    )
    assert "neighbours" in broken(found)
    with pytest.raises(ModelError, match=r'packed rows see each other.*\n.*batching = "bucketed"') as refused:
        found.refuse()
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "roformer", "megatron-bert"])
@pytest.mark.parametrize("half", [False, True])
def test_a_model_that_looks_ahead_is_found(kind: str, half: bool) -> None:
    of = model(kind)
    found = proven(of.bfloat16() if half else of, collate.padded, formats=[torch.bfloat16 if half else torch.float32])
    assert "later" in broken(found)
    with pytest.raises(ModelError, match="sees the tokens that it is to predict") as refused:
        found.refuse()
    assert len(refused.value.problems) == 1


def behind_the_layers(change: Callable[[torch.Tensor], torch.Tensor], of: Any = None) -> Any:
    """A right model of which `change` makes something of the last hidden states (B, T, D)."""
    of = tiny_model() if of is None else of
    of.model.norm.register_forward_hook(lambda _, __, hidden_BTD: hidden_BTD + change(hidden_BTD))
    return of


def from_afar(distance: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """What each place is told of the one so far after it; of one before it with a negative distance."""

    def change(hidden_BTD: torch.Tensor) -> torch.Tensor:
        moved_BTD = torch.zeros_like(hidden_BTD)
        if distance > 0:
            moved_BTD[:, :-distance] = hidden_BTD[:, distance:]
        else:
            moved_BTD[:, -distance:] = hidden_BTD[:, :distance]
        return 0.1 * moved_BTD

    return change


@pytest.mark.parametrize("distance", [1, 5, 40, 100, 180])
def test_a_leak_from_afar_is_found(distance: int) -> None:
    found = proven(behind_the_layers(from_afar(distance)), collate.padded, rows=rows(200, 90, 150, 70))
    assert broken(found) & {"later", "longest"}
    with pytest.raises(ModelError) as refused:
        found.refuse()
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize("distance", [-70, -130])
def test_packed_rows_that_see_one_far_before_them_are_found(distance: int) -> None:
    found = proven(behind_the_layers(from_afar(distance)), collate.packed, packs=3, rows=rows(70, 60, 66, 50))
    assert broken(found) == {"longest"}
    with pytest.raises(ModelError, match=r'tokens far from each other.*\n.*batching = "bucketed"'):
        found.refuse()


@pytest.mark.parametrize("block", [2, 4, 8, 16, 32])
def test_tokens_that_see_their_whole_block_are_found(block: int) -> None:
    def mean_of_block(hidden_BTD: torch.Tensor) -> torch.Tensor:
        parts = hidden_BTD.split(block, dim=1)
        return torch.cat([part.mean(1, keepdim=True).expand_as(part) for part in parts], dim=1)

    for length in (31, 48, 64, 96):
        found = proven(behind_the_layers(mean_of_block), collate.padded, rows=rows(length, 9, 20, 30))
        assert "later" in broken(found), length


def test_frequencies_that_depend_on_a_sequence_s_length_are_no_fault() -> None:
    """As those of models that are stretched to more positions than they were first trained on."""
    of = model("llama", rope_parameters={
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 80,
        "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "factor": 2.0,
    })  # fmt: skip
    found = proven(of, collate.padded, rows=rows(120, 40, 60, 50))
    assert broken(found) == set()


def test_rows_that_mix_hide_no_other_fault() -> None:
    """One sequence at a time: what two of them would make of each other is no measure of what is allowed."""

    def mix(hidden_BTD: torch.Tensor) -> torch.Tensor:
        return hidden_BTD.mean(0, keepdim=True) + 0.01 * from_afar(1)(hidden_BTD)

    found = proven(behind_the_layers(mix), collate.padded, sequences=1)
    assert "later" in broken(found)


def test_what_could_not_be_shown_is_said() -> None:
    """A model to which its context makes no difference yet: attention whose output begins at 0."""
    of: Any = model("bloom")
    for block in of.transformer.h:
        torch.nn.init.zeros_(block.self_attention.dense.weight)
        torch.nn.init.zeros_(block.self_attention.dense.bias)
    found = proven(of, collate.packed, packs=3)
    assert broken(found) == set()
    assert {name for name, one in found.figures.items() if isinstance(one, dict) and one.get("shown") is False} == {
        "later", "beside", "padded", "neighbours", "packed", "longest",
    }  # fmt: skip
    [note] = found.notes()
    assert note.startswith("could not be shown") and "other rows of its sequence change none" in note
    assert {line[2] for line in found.lines()} == {"for comparison", "could not be shown"}
    assert proven(model("llama"), collate.packed, packs=3).notes() == []


def test_an_encoder_that_is_made_a_decoder_is_right() -> None:
    assert broken(proven(model("bert", is_decoder=True), collate.padded)) == set()


def left_padded(sequences: Sequence[Sequence[Encoded]], pad_id: int) -> dict[str, torch.Tensor]:
    """Padding in front, which a score without an attention mask lets rows see."""
    batch = collate.padded(sequences, pad_id)
    for index, (row,) in enumerate(sequences):
        shift = batch["input_ids"].shape[1] - len(row.input_ids)
        batch = {key: value.clone() for key, value in batch.items()}
        for value in batch.values():
            value[index] = value[index].roll(shift)
    return batch


def without_restart(sequences: Sequence[Sequence[Encoded]], pad_id: int) -> dict[str, torch.Tensor]:
    """Packs whose positions run on: plain concatenation."""
    batch = collate.packed(sequences, pad_id)
    return {**batch, "position_ids": torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])}


def shifted(sequences: Sequence[Sequence[Encoded]], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows kept apart, but each begins at the position after the last of the row before it, and one more."""
    batch = collate.packed(sequences, pad_id)
    width = batch["input_ids"].shape[1]
    starts = batch["position_ids"].eq(0).cumsum(1)
    return {**batch, "position_ids": (torch.arange(width) + starts).clamp(max=127)}


@pytest.mark.parametrize(
    ("collated", "packs", "expected"),
    [
        (left_padded, 1, {"padded"}),
        (without_restart, 3, {"neighbours", "packed", "longest"}),
        (shifted, 3, {"packed"}),
    ],
)
def test_faults_of_a_batching_strategy_are_found(collated: Any, packs: int, expected: set[str]) -> None:
    assert broken(proven(model("gpt2"), collated, packs=packs)) == expected


@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_rows_of_a_batch_that_mix_are_found(strength: float) -> None:
    """As capacities of experts may do: planted in the last layer of the batch's first row."""
    of = tiny_model()

    def mix(_: Any, __: Any, hidden_BTD: torch.Tensor) -> torch.Tensor:
        return hidden_BTD + strength * hidden_BTD.mean(0, keepdim=True)

    of.model.norm.register_forward_hook(mix)
    assert {"beside", "padded"} <= broken(proven(of, collate.padded))


def test_what_a_model_raises_is_the_reason() -> None:
    of: Any = tiny_model()
    forward = of.forward

    def no_positions(*, input_ids: Any, use_cache: bool) -> Any:
        return forward(input_ids=input_ids, use_cache=use_cache)

    of.forward = no_positions
    with pytest.raises(TypeError, match="position_ids"):  # not even a row alone can be computed
        proven(of, collate.packed, packs=2)

    def one_row(*, input_ids: Any, use_cache: bool, position_ids: Any) -> Any:
        if int((position_ids == 0).sum()) > len(input_ids):
            raise ValueError("one row at a time")
        return forward(input_ids=input_ids, use_cache=use_cache, position_ids=position_ids)

    of.forward = one_row
    found = proven(of, collate.packed, packs=2)
    assert {"neighbours", "packed"} <= broken(found)
    with pytest.raises(ModelError, match="ValueError: one row at a time"):
        found.refuse()


def test_a_table_of_positions_that_no_configuration_tells_of() -> None:
    """The longest sequence of the run goes through the model once: here 70 tokens, where there are 66 positions."""
    of = model("gpt2")
    of.transformer.wpe = torch.nn.Embedding(66, 32)
    found = proven(of, collate.padded)
    assert broken(found) == {"longest"}
    with pytest.raises(ModelError, match=r"of 70 tokens: IndexError.*\n.*batching\.max_length"):
        found.refuse()


def test_memory_that_runs_out_comes_through() -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        proven(tiny_model(), collate.padded, score=full)


def test_nothing_of_the_run_is_touched() -> None:
    """Random numbers, modes, gradients and weights are as they were; also where a model draws as it evaluates."""
    of = model("gpt2").train()
    of.transformer.h[0].eval()
    modes, drawn = [module.training for module in of.modules()], list[Any]()

    def draws(model: Any, batch: Any) -> Any:
        drawn.append((random.random(), float(np.random.rand()), torch.rand(3).tolist()))
        return score(model, batch)

    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state().tolist()

    before, weights = state(), {name: p.clone() for name, p in of.named_parameters()}
    proven(of, collate.padded, score=draws)
    assert repr(state()) == repr(before)
    assert len(drawn) > 3 and all(one == drawn[0] for one in drawn)
    assert [module.training for module in of.modules()] == modes
    assert all(p.grad is None and torch.equal(p, weights[name]) for name, p in of.named_parameters())
