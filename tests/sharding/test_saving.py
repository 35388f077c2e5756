"""The final model of a sharded run: one plain model, gathered once, in several files where it is large."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from .matrix import SHARDINGS, WHOLE
from .sabotage import sabotage
from .watching import dist

pytestmark = dist

LOOK = """
import gc, json, torch

options["max_shard_size"] = "20KB"
assert all(p.untyped_storage().nbytes() == p.nbytes for p in arguments[0].parameters())  # else each is copied
plain = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
storages = {{one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in plain}}
with open({file!r}, "w") as file:
    json.dump(sum(storages.values()), file)
"""


@pytest.mark.parametrize(
    ("sharding", "engine"),
    [
        ("fsdp", 3 * 0.5),  # its share of the weights and of both moments
        ("zero-2", 3 * 0.5 + 0.5 + 1),  # masters and moments; the last gradients; what the weights were pieces of
        ("zero-3", 3 * 0.5 + 0.5 + 0.5 + 2),  # and its share; weights this small stay whole too, and so does a bucket
    ],
)
def test_it_is_gathered_once_and_may_have_several_files(
    tmp_path: Path, recipe: dict[str, Any], started: Any, sharding: str, engine: float
) -> None:
    recipe["sharding"] |= SHARDINGS[sharding]
    look, found = tmp_path / "look.py", tmp_path / "found.json"
    look.write_text(LOOK.format(file=str(found)))
    deed = f"exec(open({str(look)!r}).read(), {{'options': options, 'arguments': arguments}})"
    process = started(
        # The first call saves a model without weights, to see before the first update that it can be saved.
        **sabotage(tmp_path, deed, rank=0, update=2, at=("transformers", "PreTrainedModel", "save_pretrained"))
    )
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    folder = tmp_path / "runs" / "r" / "model"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    model = AutoModelForCausalLM.from_pretrained(folder)
    whole = sum(p.nbytes for p in model.parameters())
    assert json.loads(found.read_text()) < (1 + engine + 0.1) * whole


@pytest.mark.parametrize("sharding", ["fsdp", "zero-3", *(["ddp", "zero-2"] if WHOLE else [])])
def test_a_model_that_is_lost_is_made_again_without_an_update(
    tmp_path: Path, recipe: dict[str, Any], started: Any, sharding: str
) -> None:
    """In 16 bits, where ZeRO saves what the model's weights are copies of."""
    recipe["sharding"] |= SHARDINGS[sharding]
    recipe["precision"] = {"name": "bf16"}
    recipe["run"] |= {"max_steps": 3}
    run = tmp_path / "runs" / "r"
    process = started()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    names = ("model/model.safetensors", "model/config.json", "metrics.jsonl")
    before = {name: (run / name).read_bytes() for name in names}
    shutil.rmtree(run / "model")
    process = started("--resume")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert {name: (run / name).read_bytes() for name in names} == before
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "model_remade"] == [3]


@pytest.mark.parametrize("sharding", ["fsdp", "zero-3", *(["ddp", "zero-2"] if WHOLE else [])])
def test_the_best_model_is_the_one_before_the_first_update_where_all_others_are_worse(
    tmp_path: Path, recipe: dict[str, Any], started: Any, sharding: str
) -> None:
    recipe["sharding"] |= SHARDINGS[sharding]
    recipe["run"] |= {"max_steps": 2}
    recipe["optimizer"] = {"name": "adamw", "lr": 3.0}
    recipe["evaluation"] |= {"every": 1, "best": "loss"}
    process = started()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    run = tmp_path / "runs" / "r"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best"]["step"] == 0 and summary["eval"]["after"] == pytest.approx(summary["eval"]["before"])
    found, source = (load_file(one / "model.safetensors") for one in (run / "model", Path(recipe["model"]["source"])))
    assert found.keys() == source.keys() and all(torch.equal(found[name], source[name]) for name in source)
