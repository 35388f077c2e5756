"""What cannot go together with a sharding is said by `validate`, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fttool.errors import RecipeError
from fttool.recipe.reading import load

FSDP, ZERO = {"name": "fsdp", "processes": 2}, {"name": "zero", "processes": 2}
IN_16_BITS = {"precision": {"name": "bf16", "weights": "bfloat16"}}


@pytest.fixture
def validated(tmp_path: Path, fttool_recipe: dict[str, Any]) -> Any:
    def validate(sharding: dict[str, Any], changes: dict[str, Any]) -> str:
        tables = {"precision": "bf16", **changes, "sharding": sharding}
        (tmp_path / "r.toml").write_text(tomli_w.dumps({**fttool_recipe, **tables}))
        try:
            load(tmp_path / "r.toml")
        except RecipeError as refused:
            return str(refused)
        return ""

    return validate


@pytest.mark.parametrize(
    ("sharding", "changes", "said"),
    [
        ({**FSDP, "processes": 1}, {}, "and there is one"),
        ({**FSDP, "processes": 4, "nodes": 3}, {}, "4 processes do not spread evenly over 3 nodes"),
        (FSDP, IN_16_BITS, "fsdp holds what trains in float32"),
        ({**FSDP, "name": "auto"}, IN_16_BITS, "fsdp holds what trains in float32"),
        ({**ZERO, "offload_parameters": True}, {}, "offload_parameters needs stage 3"),
        ({**ZERO, "stage": 3}, {"regularizers": ["ema"]}, "zero stage 3 leaves none in the model"),
        (ZERO, {"optimizer": {"name": "muon", "lr": 0.1}}, "flat pieces"),
    ],
)
def test_it_is_refused(validated: Any, sharding: Any, changes: Any, said: str) -> None:
    assert said in validated(sharding, changes)


@pytest.mark.parametrize(
    ("sharding", "changes"),
    [
        (FSDP, {}),
        (FSDP, {**IN_16_BITS, "freezing": "lora"}),  # the base model does not train, and stays in 16 bits
        (ZERO, IN_16_BITS),
        ({**FSDP, "name": "ddp"}, IN_16_BITS),
        ({**ZERO, "stage": 2}, {"regularizers": ["ema"]}),
        ({"name": "auto", "processes": 1}, IN_16_BITS),
    ],
)
def test_it_is_not_refused(validated: Any, sharding: Any, changes: Any) -> None:
    assert not validated(sharding, changes)


def test_two_kinds_of_activation_checkpointing(validated: Any, fttool_recipe: dict[str, Any]) -> None:
    model = {"model": {**fttool_recipe["model"], "gradient_checkpointing": True}}
    assert "do the same" in validated({**FSDP, "activation_checkpointing": True}, model)
