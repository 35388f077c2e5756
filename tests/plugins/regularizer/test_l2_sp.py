"""`l2-sp`: what counts as new, and what it cannot go with; its gradient is tested in test_pulling.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForSequenceClassification

from fttool.api import RecipeError
from fttool.testing import regularizer_context, run_recipe, tiny_model
from fttool.testing.tiny import tiny_config
from fttool_plugins.precision.auto import Auto
from fttool_plugins.precision.bf16 import Bf16
from fttool_plugins.regularizer.l2_sp import L2SP

from ...rows import write_rows


def test_a_new_head_is_pulled_to_zero_and_all_else_to_the_start() -> None:
    model = LlamaForSequenceClassification(tiny_config(num_labels=3))
    context = regularizer_context(model, Path(), new=frozenset({"score.weight"}))
    to_start, to_zero = L2SP(alpha=0.3, beta=0.04).build(context).pulls
    assert (to_start.towards, to_zero.towards) == ("start", "zero")
    for name, _ in model.named_parameters():
        found = to_start.coefficient(name), to_zero.coefficient(name)
        assert found == ((0.0, 0.04) if name == "score.weight" else (0.3, 0.0)), name


def test_a_causal_models_head_is_pre_trained() -> None:
    """Then the penalty is that of `l2-init` at strength α/2."""
    model = tiny_model()
    to_start, to_zero = L2SP().build(regularizer_context(model, Path())).pulls
    assert {to_start.coefficient(name) for name, _ in model.named_parameters()} == {0.1}
    assert {to_zero.coefficient(name) for name, _ in model.named_parameters()} == {0.0}


def test_a_run_on_a_causal_model_is_that_of_l2_init(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    runs = {}
    for one in ({"name": "l2-sp", "alpha": 0.5}, {"name": "l2-init", "strength": 0.25}):
        fttool_recipe["regularizers"] = [one]
        runs[one["name"]] = run_recipe(fttool_recipe, tmp_path, overrides=[f"run.name={one['name']}"])
    sp, init = (load_file(runs[name].run_dir / "model" / "model.safetensors") for name in ("l2-sp", "l2-init"))
    assert all(torch.equal(sp[name], init[name]) for name in init)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    file = tmp_path / "classes.jsonl"
    rows = [{"text": f"row {number} is {'odd' if number % 2 else 'even'}", "label": number % 2} for number in range(24)]
    write_rows(file, rows)
    return file


def test_a_run_knows_a_classifiers_head_as_new(tmp_path: Path, fttool_recipe: dict[str, Any], classes: Path) -> None:
    """With β alone and no gradient to speak of, one step of SGD shrinks the new head and leaves the rest."""
    fttool_recipe["task"] = "classification"
    fttool_recipe["data"] = {"train": [{"path": str(classes)}]}
    fttool_recipe["run"] |= {"max_steps": 1}
    fttool_recipe["optimizer"] = {"name": "sgd", "lr": 0.5, "momentum": 0.0, "max_grad_norm": 1e-12}
    fttool_recipe["schedule"] = "constant"
    found = {}
    for beta in (0.0, 0.2):
        fttool_recipe["regularizers"] = [{"name": "l2-sp", "alpha": 0.1, "beta": beta}]
        run = run_recipe(fttool_recipe, tmp_path, overrides=[f"run.name=beta-{beta}"])
        assert run.error is None
        found[beta] = load_file(run.run_dir / "model" / "model.safetensors")
    for name, tensor in found[0.0].items():
        expected = tensor * (1 - 0.5 * 0.2) if name == "score.weight" else tensor
        torch.testing.assert_close(found[0.2][name], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "new", "said", "hint"),
    [
        ({"alpha": 0}, frozenset[str](), "pulls new weights alone", "alpha = 0.1"),
        ({"beta": 0}, frozenset({"lm_head.weight"}), "pulls pre-trained weights alone", "beta = 0.01"),
    ],
)
def test_a_penalty_of_nothing_that_trains_is_refused(
    options: dict[str, float], new: frozenset[str], said: str, hint: str
) -> None:
    context = regularizer_context(tiny_model(), Path(), new=new, trained=frozenset({"lm_head.weight"}))
    L2SP().build(context)
    with pytest.raises(RecipeError, match=said) as caught:
        L2SP(**options).build(context)
    assert hint in caught.value.problems[0].hint


def test_what_it_cannot_go_with() -> None:
    [problem] = L2SP().check(SimpleNamespace(precision=Bf16(weights="bfloat16")))
    assert problem.key == ("precision", "weights") and "l2-sp" in problem.message
    [problem] = L2SP(alpha=0, beta=0).check(SimpleNamespace(precision=Auto()))
    assert "pulls nothing" in problem.message
    assert not list(L2SP(alpha=0).check(SimpleNamespace(precision=Auto())))
