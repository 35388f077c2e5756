"""The final model of a sharded run: one plain model, gathered once, in several files where it is large."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from .conftest import two_processes
from .matrix import SHARDINGS, WHOLE, Outcome, under
from .sabotage import sabotage
from .together import Made, Recipes, Together, again, first
from .watching import dist, events

pytestmark = dist

ENGINES = ("ddp", "fsdp", "zero-2", "zero-3") if WHOLE else ("fsdp", "zero-3")
FILES = ("model/model.safetensors", "model/config.json", "metrics.jsonl")

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


@first
def recipes(folder: Path, model: Path) -> Recipes:
    """Of each engine a run whose model will be lost, and one that only makes the model worse.

    The first in 16 bits, where ZeRO saves what the model's weights are copies of.
    """
    plain = two_processes(folder, model)
    lost = {**plain, "precision": {"name": "bf16"}, "run": {**plain["run"], "max_steps": 3}}
    worse = {**plain, "optimizer": {"name": "adamw", "lr": 3.0}, "run": {**plain["run"], "max_steps": 2}}
    worse["evaluation"] = {**plain["evaluation"], "every": 1, "best": "loss"}
    kinds = {"lost": lost, "worse": worse}
    return {f"{one}-saving-{kind}": under(SHARDINGS[one], kinds[kind]) for one in ENGINES for kind in kinds}


@again
def without_model(folder: Path, made: Made) -> Recipes:
    """The first kind gone on with, with its model lost."""
    recipes: Recipes = {}
    for name in (f"{one}-saving-lost" for one in ENGINES):
        outcome = made[name]
        assert isinstance(outcome, Outcome), outcome
        shutil.copytree(outcome.run_dir, folder / "runs" / name)
        shutil.rmtree(folder / "runs" / name / "model")
        recipes[name] = tomli.loads((outcome.run_dir.parents[1] / f"{name}.toml").read_text())
    return recipes


@pytest.mark.parametrize("sharding", ENGINES)
def test_a_model_that_is_lost_is_made_again_without_an_update(together: Together, sharding: str) -> None:
    whole, remade = (runs[f"{sharding}-saving-lost"] for runs in (together.made(), together.gone_on()))
    assert isinstance(whole, Outcome) and isinstance(remade, Outcome), remade
    for name in FILES:
        assert (remade.run_dir / name).read_bytes() == (whole.run_dir / name).read_bytes(), name
    assert [event["step"] for event in events(remade.run_dir) if event["event"] == "model_remade"] == [3]


@pytest.mark.parametrize("sharding", ENGINES)
def test_the_best_model_is_the_one_before_the_first_update_where_all_others_are_worse(
    together: Together, fttool_tiny_model: Path, sharding: str
) -> None:
    outcome = together.made()[f"{sharding}-saving-worse"]
    assert isinstance(outcome, Outcome), outcome
    summary = outcome.summary
    assert summary["best"]["step"] == 0 and summary["eval"]["after"] == pytest.approx(summary["eval"]["before"])
    found, source = (load_file(one / "model.safetensors") for one in (outcome.run_dir / "model", fttool_tiny_model))
    assert found.keys() == source.keys() and all(torch.equal(found[name], source[name]) for name in source)
