"""`gradual`: which layer unfreezes in which update, against tables written by hand."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from fttool.api import ModelError, RecipeError
from fttool.recipe.reading import load
from fttool_plugins.freezing.gradual import Gradual, stages

from ...architectures import tiny
from .contexts import EMBEDDINGS, HEAD, NORM, layer, llama, starts, units

NEVER = None
TABLE: list[tuple[dict[str, Any], list[int], int | None]] = [
    # options, update in which layers 0 to 3 unfreeze, the same of the embeddings; 12 updates in epochs of 3
    ({}, [12, 9, 6, 3], 15),
    ({"every": 1}, [4, 3, 2, 1], 5),
    ({"every": 2.0}, [8, 6, 4, 2], 10),
    ({"every": 0.1}, [8, 6, 4, 2], 10),  # ceil(0.1 × 12) = 2
    ({"every": 2, "start": 1}, [6, 4, 2, 0], 8),
    ({"every": 2, "start": 4}, [0, 0, 0, 0], 2),
    ({"every": 2, "layers_per_step": 2}, [4, 4, 2, 2], 6),
    ({"every": 2, "layers_per_step": 3}, [4, 2, 2, 2], 6),
    ({"every": 2, "start": 1, "layers_per_step": 9}, [2, 2, 2, 0], 4),
    ({"every": 2, "embeddings": "first"}, [8, 6, 4, 2], 0),
    ({"every": 2, "embeddings": "never"}, [8, 6, 4, 2], NEVER),
    ({"every": 2, "order": "bottom-up"}, [2, 4, 6, 8], 0),
    ({"every": 2, "order": "bottom-up", "embeddings": "last"}, [2, 4, 6, 8], 10),
    ({"every": 2, "order": "bottom-up", "start": 2, "embeddings": "never"}, [0, 0, 2, 4], NEVER),
]


@pytest.mark.parametrize(("options", "expected", "embeddings"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_layers_unfreeze_in_their_turn(options: dict[str, Any], expected: list[int], embeddings: int | None) -> None:
    found = units(Gradual(**options))
    table = starts(found)
    assert table.pop(NORM) == table.pop(HEAD) == 0
    assert table.pop(EMBEDDINGS, NEVER) == embeddings
    for number, update in enumerate(expected):
        assert {table.pop(name) for name in layer(number)} == {update}
    assert not table
    for unit in found:  # once unfrozen, for good
        [turn] = unit.trains_in
        assert 10**9 in turn


def test_stages_take_every_layer_once() -> None:
    assert stages(range(5), start=2, each=2) == [range(2), range(2, 4), range(4, 5)]
    assert stages(range(2), start=0, each=1) == [range(0), range(1), range(1, 2)]
    assert stages(range(2), start=2, each=1) == [range(2)]


def test_a_tied_head_unfreezes_with_the_embeddings_and_the_top_layer_stands_in_for_it() -> None:
    tied = llama(tie_word_embeddings=True)
    table = starts(units(Gradual(every=2), tied))
    assert [table[min(layer(number))] for number in range(4)] == [6, 4, 2, 0]
    assert (table[NORM], table[EMBEDDINGS]) == (0, 8)
    table = starts(units(Gradual(every=2, embeddings="first"), tied))
    assert [table[min(layer(number))] for number in range(4)] == [8, 6, 4, 2]
    assert (table[NORM], table[EMBEDDINGS]) == (0, 0)
    assert EMBEDDINGS not in starts(units(Gradual(every=2, embeddings="never"), tied))


def test_nothing_but_a_norm_at_first_is_refused() -> None:
    with pytest.raises(ModelError, match=r"freezing\.start is 0, but the head of LlamaForCausalLM shares") as caught:
        units(Gradual(start=0), llama(tie_word_embeddings=True))
    assert caught.value.problems[0].key == ("freezing", "start")
    with pytest.raises(ModelError, match=r"freezing\.start is 0, but LlamaModel has no head"):
        units(Gradual(start=0), llama().model)


def test_a_start_beyond_the_layers_is_refused_with_their_number() -> None:
    with pytest.raises(ModelError, match=r"freezing\.start is 5, and LlamaForCausalLM has 4 layers"):
        units(Gradual(start=5))


def test_an_encoder_decoder_unfreezes_from_the_decoders_top_to_the_encoders_bottom() -> None:
    table = starts(units(Gradual(every=1, embeddings="never"), tiny("t5")))
    at = {update: {name.split(".block.")[0] for name, first in table.items() if first == update} for update in range(6)}
    assert all("decoder" in at[update] for update in range(3)) and "encoder" not in at[2]
    assert at[3] | at[4] | at[5] == {"encoder", "encoder.final_layer_norm.weight"}


@pytest.mark.parametrize("every", [0, -1, "epochs", [3]])
def test_a_stage_must_last(every: Any) -> None:
    with pytest.raises(ValidationError, match="every"):
        Gradual(every=every)


BASE = """
recipe = 1
[model]
source = "builtin:tiny-chat"
[[data.train]]
path = "rows.jsonl"
"""


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (["freezing=gradual"], True),
        (["freezing=gradual", "run.epochs=1"], True),
        (["freezing=gradual", "run.epochs=2"], False),
        (["freezing=gradual", "run.max_steps=10"], False),
        (["freezing={name='gradual',every=0.2}", "run.epochs=1"], False),
    ],
)
def test_a_layer_an_epoch_needs_more_than_one_epoch(tmp_path: Path, overrides: list[str], refused: bool) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(BASE)
    if not refused:
        load(file, overrides)
        return
    with pytest.raises(RecipeError, match="gradual unfreezes a layer after each epoch, and this run has one") as caught:
        load(file, overrides)
    [problem] = caught.value.problems
    assert problem.where == "--set freezing" and "every = 0.1" in problem.hint


def test_a_longer_run_is_the_same_run_unless_stages_are_a_share_of_it() -> None:
    assert Gradual().extendable and Gradual(every=1).extendable and Gradual(every=40).extendable
    assert not Gradual(every=0.1).extendable


def test_every_option_that_is_a_word_is_in_the_table() -> None:
    """So that a new one is not forgotten above."""
    for name in ("order", "embeddings"):
        words = {word for part in get_args(Gradual.model_fields[name].annotation) for word in get_args(part) or [part]}
        met = {options.get(name) for options, _, _ in TABLE}
        assert {word for word in words if isinstance(word, str)} - met <= {"top-down"}
