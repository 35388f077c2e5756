"""`wise-ft`: (1 − α)θ₀ + αθ₁, in float32, over what the source gives."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fttool.api import RecipeError
from fttool.testing import regularizer_context, run_recipe, tiny_model
from fttool_plugins.regularizer.wise_ft import WiseFT, interpolate


def weights(model: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trained() -> Any:
    model = tiny_model()
    torch.manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    return model


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_weights_lie_between(alpha: float) -> None:
    start, model = weights(tiny_model()), trained()
    after = weights(model)
    interpolate(model.named_parameters(), start, alpha)
    for name, values in weights(model).items():
        expected = (1 - alpha) * start[name].double() + alpha * after[name].double()
        torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-6)
    if alpha in (0.0, 1.0):
        wanted = after if alpha else start
        assert all(torch.equal(values, wanted[name]) for name, values in weights(model).items())


def test_what_the_start_lacks_stays_as_it_was_trained() -> None:
    start, model = weights(tiny_model()), trained()
    head = start.pop("lm_head.weight")
    after = weights(model)
    interpolate(model.named_parameters(), start, 0.25)
    assert torch.equal(model.lm_head.weight, after["lm_head.weight"]) and not torch.equal(model.lm_head.weight, head)


def test_half_precision_is_mixed_in_float32() -> None:
    model = trained().to(torch.bfloat16)
    start, after = weights(tiny_model().to(torch.bfloat16)), weights(model)
    interpolate(model.named_parameters(), start, 0.3)
    for name, values in weights(model).items():
        expected = (0.7 * start[name].double() + 0.3 * after[name].double()).to(torch.bfloat16)
        torch.testing.assert_close(values, expected, rtol=0.008, atol=1e-6)


def test_the_start_is_asked_for_at_the_end_only() -> None:
    def start() -> dict[str, Tensor]:
        asked.append(True)
        return weights(tiny_model())

    asked: list[bool] = []
    model = trained()
    built = WiseFT(alpha=0.0).build(regularizer_context(model, Path(), start=start))
    assert not asked and built.final_weights is not None
    built.final_weights(model.named_parameters())
    assert asked == [True]
    assert all(torch.equal(values, weights(tiny_model())[name]) for name, values in weights(model).items())


@pytest.mark.full
def test_a_run_ends_between_its_source_and_the_run_without(
    tmp_path: Path, fttool_recipe: dict[str, Any], fttool_tiny_model: Path
) -> None:
    """Behind `ema` too, whose average it mixes; and the last evaluation is of the mixture."""
    fttool_recipe["data"]["eval_share"] = 0.2
    start = load_file(fttool_tiny_model / "model.safetensors")
    for before in ([], [{"name": "ema", "decay": 0.5}]):
        found = {}
        for after in ([], [{"name": "wise-ft", "alpha": 0.7}]):
            name = f"run-{len(before)}{len(after)}"
            fttool_recipe["regularizers"] = [*before, *after]
            done = run_recipe(fttool_recipe, tmp_path, overrides=[f"run.name={name}"])
            assert done.error is None
            found[bool(after)] = load_file(done.run_dir / "model" / "model.safetensors")
        for name, values in found[True].items():
            expected = 0.3 * start[name].double() + 0.7 * found[False][name].double()
            torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-6)
        final = [line for line in done.metrics if "eval_loss" in line][-1]
        assert final["final"] and done.summary["eval"]["after"]["loss"] == final["eval_loss"]


def test_where_nothing_that_the_source_gives_trains_it_is_refused() -> None:
    head = frozenset({"lm_head.weight"})
    with pytest.raises(RecipeError, match="none of those that train are") as caught:
        WiseFT().build(regularizer_context(tiny_model(), Path(), trained=head, new=head))
    assert "[freezing]" in caught.value.problems[0].hint


def declared(freezing: str) -> Any:
    """What the built-in freezing of this name says of itself."""
    matrices = freezing not in ("head-only", "bitfit")
    return SimpleNamespace(id=lambda: freezing, adapts=freezing == "lora", trains_matrices=matrices)


def test_lora_and_a_second_one_are_refused() -> None:
    def found(freezing: str, *above: WiseFT) -> list[Any]:
        one = WiseFT(alpha=0.7)
        recipe = SimpleNamespace(freezing=declared(freezing), regularizers=(*above, one))
        return list(one.check(recipe))  # type: ignore[arg-type]

    [problem] = found("lora")
    assert "with freezing.merge = true, mix afterwards: fttool merge" in problem.hint
    assert not found("full")
    [problem] = found("full", WiseFT())
    assert "listed twice" in problem.message
