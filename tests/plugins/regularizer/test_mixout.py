"""`mixout`: value and gradient against the paper's formula, which layers it changes, and models saved plain."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fttool.api import RecipeError
from fttool.testing import regularizer_context, run_recipe, tiny_model
from fttool_plugins.regularizer.mixout import Mixout
from fttool_plugins.regularizer.mixout_layers import MixoutConv1D, MixoutLinear, mix, mixed

from ...architectures import tiny


def modified(model: PreTrainedModel, strategy: Mixout | None = None, **changes: Any) -> PreTrainedModel:
    """The model with its layers changed, as core has them changed."""
    built = (strategy or Mixout()).build(regularizer_context(model, Path(), **changes))
    assert built.modify is not None
    built.modify(model)
    return model


def layer(kind: type[nn.Module], per_weight: bool, p: float = 0.7) -> Any:
    """A layer of 5 inputs and 4 outputs that has moved away from where it started."""
    torch.manual_seed(0)
    made: Any = (nn.Linear(5, 4) if kind is nn.Linear else Conv1D(4, 5)).double()
    mix(made, p, per_weight=per_weight)
    with torch.no_grad():
        made.weight += torch.randn_like(made.weight)
        made.bias += torch.randn_like(made.bias)
    return made.train()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32))


kinds = pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
masks = pytest.mark.parametrize("per_weight", [False, True], ids=["neuron", "weight"])
INPUT = torch.arange(15, dtype=torch.float64).reshape(3, 5).sin()


# -- one layer -------------------------------------------------------------------------------------------------------


@kinds
@masks
def test_value_and_gradient_are_the_papers(kind: type[nn.Module], per_weight: bool) -> None:
    """The twin: ((1 − m)u + m·w − p·u)/(1 − p) as the authors write it, with autograd's own gradient."""
    p, ours = 0.7, layer(kind, per_weight)
    twin, start = copy.deepcopy(ours), ours.mixout_start
    inputs_first = kind is not nn.Linear
    shape = (5, 4) if inputs_first else (4, 5)
    drawn_shape = shape if per_weight else ((5, 1) if inputs_first else (1, 5))
    torch.manual_seed(9)
    output = ours(INPUT)
    output.square().sum().backward()
    torch.manual_seed(9)
    mask = torch.bernoulli(torch.full(drawn_shape, 1 - p, dtype=torch.float64)).expand(shape)
    assert 0 < mask.sum() < mask.numel()
    weight = ((1 - mask) * start + mask * twin.weight - p * start) / (1 - p)
    expected = INPUT @ (weight if inputs_first else weight.T) + twin.bias
    expected.square().sum().backward()
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.weight.grad, twin.weight.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.bias.grad, twin.bias.grad, rtol=0, atol=1e-12)
    assert (ours.weight.grad[mask == 0] == 0).all() and ours.weight.grad.abs().max() > 1
    without_the_factor = twin.weight.grad * (1 - p)
    assert (ours.weight.grad - without_the_factor).abs().max() > 0.1, "the authors' backward would not be seen"


@masks
def test_the_mixture_is_the_weight_on_average(per_weight: bool) -> None:
    made = layer(nn.Linear, per_weight, p=0.3)
    torch.manual_seed(1)
    draws = torch.stack([mixed(made.weight, made.mixout_start, 0.3, made.mixout_shape) for _ in range(20_000)]).detach()
    torch.testing.assert_close(draws.mean(0), made.weight.detach(), rtol=0, atol=0.03)
    replaced = (draws == made.mixout_start).double().mean()
    assert float(replaced) == pytest.approx(0.3, abs=0.01)


@kinds
def test_a_mask_per_neuron_replaces_all_weights_of_an_input(kind: type[nn.Module]) -> None:
    made = layer(kind, per_weight=False)
    drawn = mixed(made.weight, made.mixout_start, 0.7, made.mixout_shape) == made.mixout_start
    by_input = drawn if kind is nn.Linear else drawn.T
    assert (by_input == by_input[0]).all() and 0 < int(by_input[0].sum()) < 5


@kinds
@masks
def test_evaluation_uses_the_weight_itself_and_draws_nothing(kind: type[nn.Module], per_weight: bool) -> None:
    made = layer(kind, per_weight).eval()
    plain: Any = (nn.Linear(5, 4) if kind is nn.Linear else Conv1D(4, 5)).double()
    plain.load_state_dict(made.state_dict())
    before = torch.get_rng_state()
    assert torch.equal(made(INPUT), plain(INPUT))
    assert torch.equal(torch.get_rng_state(), before)


@kinds
def test_an_untrained_layer_computes_what_it_did(kind: type[nn.Module]) -> None:
    """Where w is u, every mixture is w: bit for bit."""
    made: Any = nn.Linear(5, 4) if kind is nn.Linear else Conv1D(4, 5)
    expected = made(INPUT.float())
    mix(made, 0.9, per_weight=True)
    torch.testing.assert_close(made.train()(INPUT.float()), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        mixed(made.weight, made.mixout_start, 0.9, (4, 5) if kind is nn.Linear else (5, 4)), made.weight, rtol=0, atol=0
    )


# -- a model ---------------------------------------------------------------------------------------------------------


def classes(model: PreTrainedModel) -> dict[str, str]:
    return {name: type(module).__name__ for name, module in model.named_modules() if "Mixout" in type(module).__name__}


def test_all_linear_layers_of_the_backbone_are_mixed_and_no_head() -> None:
    model = modified(tiny_model())
    blocks = {f"model.layers.{n}.self_attn.{part}_proj" for n in (0, 1) for part in "qkvo"}
    blocks |= {f"model.layers.{n}.mlp.{part}_proj" for n in (0, 1) for part in ("gate", "up", "down")}
    assert classes(model) == dict.fromkeys(blocks, "MixoutLinear")
    assert classes(modified(tiny_model(tie_word_embeddings=True))) == dict.fromkeys(blocks, "MixoutLinear")
    found = classes(modified(gpt2()))
    assert set(found.values()) == {"MixoutConv1D"} and len(found) == 8 and all(".h." in name for name in found)


def test_only_what_trains_and_is_not_new_is_mixed() -> None:
    names = frozenset(name for name, _ in tiny_model().named_parameters())
    trained = frozenset(name for name in names if ".layers.1." in name)
    new = frozenset({"model.layers.1.mlp.up_proj.weight"})
    found = classes(modified(tiny_model(), Mixout(parameters=("*.mlp.*",)), trained=trained, new=new))
    assert set(found) == {"model.layers.1.mlp.gate_proj", "model.layers.1.mlp.down_proj"}
    with pytest.raises(RecipeError, match="no linear layer of LlamaForCausalLM trains"):
        modified(tiny_model(), trained=frozenset({"lm_head.weight"}))


def test_a_model_whose_weights_are_mostly_in_no_linear_layer_is_refused_with_those_that_are() -> None:
    """Mixtral's experts are one tensor a layer, and its router has a class of its own."""
    with pytest.raises(RecipeError, match=r"can mix 2\d% of the weights .*experts\.gate_up_proj") as caught:
        modified(tiny("mixtral"))
    hint = caught.value.problems[0].hint
    patterns = json.loads(hint[hint.index("[") :])
    assert patterns == [f"*.{part}_proj.weight" for part in "koqv"]
    found = classes(modified(tiny("mixtral"), Mixout(parameters=tuple(patterns))))
    assert found.keys() == {f"model.layers.{n}.self_attn.{part}_proj" for n in (0, 1, 2) for part in "qkvo"}
    assert classes(modified(tiny("modernbert"))).keys().isdisjoint({"head.dense", "classifier"})


def test_two_on_one_layer_are_refused() -> None:
    model = tiny_model()
    context = regularizer_context(model, Path())
    one, two = Mixout(parameters=("*.mlp.*",)).build(context), Mixout().build(context)
    assert one.modify is not None and two.modify is not None
    one.modify(model)
    with pytest.raises(RecipeError, match="two mixout"):
        two.modify(model)


@pytest.mark.parametrize("make", [tiny_model, lambda: tiny_model(tie_word_embeddings=True), gpt2])
def test_names_stay_and_a_saved_model_loads_whole(make: Any, tmp_path: Path) -> None:
    plain, model = make(), modified(make())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert list(model.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    model.save_pretrained(tmp_path)
    again, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert type(again) is type(plain) and not classes(again)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(again.eval()(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_gradient_checkpointing_draws_the_same_masks_again() -> None:
    def gradients(**checkpointing: bool) -> dict[str, Tensor]:
        model = modified(tiny_model()).train()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.2)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False, **checkpointing})
        torch.manual_seed(3)
        logits = model(input_ids=torch.tensor([[5, 6, 7, 8]]), use_cache=False).logits
        logits.square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, checkpointed = gradients(), gradients(preserve_rng_state=True)
    torch.testing.assert_close(checkpointed, plain, rtol=0, atol=1e-6)
    others = gradients(preserve_rng_state=False)
    assert not all(torch.allclose(others[name], plain[name], rtol=0, atol=1e-3) for name in plain)


def test_each_micro_batch_draws_masks_of_its_own() -> None:
    model = modified(tiny_model()).train()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.2)
    ids = torch.tensor([[5, 6, 7]])
    torch.manual_seed(0)
    one, two = (model(input_ids=ids).logits for _ in range(2))
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    again = model(input_ids=ids).logits
    assert torch.equal(one, again)


def test_it_moves_with_the_model_and_copies() -> None:
    model = copy.deepcopy(modified(tiny_model())).double()
    some: Any = model.get_submodule("model.layers.0.mlp.up_proj")
    assert isinstance(some, MixoutLinear) and some.mixout_start.dtype == torch.float64
    assert some.mixout_start is not some.weight and isinstance(layer(Conv1D, False), MixoutConv1D)


# -- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_mixes_and_writes_a_plain_model(tmp_path: Path, fttool_recipe: dict[str, Any]) -> None:
    plain = run_recipe(fttool_recipe, tmp_path)
    fttool_recipe["regularizers"] = [{"name": "mixout", "p": 0.5}]
    runs = [run_recipe(fttool_recipe, tmp_path, overrides=[f"run.name={name}"]) for name in ("one", "two")]
    first, second, without = (load_file(run.run_dir / "model" / "model.safetensors") for run in (*runs, plain))
    assert first.keys() == without.keys()
    assert all(torch.equal(first[name], second[name]) for name in first), "the seed decides"
    assert not all(torch.equal(first[name], without[name]) for name in first)
    checkpointed = run_recipe(
        fttool_recipe, tmp_path, overrides=["run.name=three", "model.gradient_checkpointing=true"]
    )
    third = load_file(checkpointed.run_dir / "model" / "model.safetensors")
    assert all(torch.allclose(first[name], third[name], rtol=0, atol=1e-6) for name in first)


def declared(freezing: str) -> Any:
    """What the built-in freezing of this name says of itself."""
    matrices = freezing not in ("head-only", "bitfit")
    return SimpleNamespace(id=lambda: freezing, adapts=freezing == "lora", trains_matrices=matrices)


def test_what_leaves_nothing_to_mix_and_what_would_mix_twice_is_refused() -> None:
    def found(freezing: str, *all_of_them: Mixout) -> list[Any]:
        every = all_of_them or (Mixout(),)
        recipe = SimpleNamespace(freezing=declared(freezing), regularizers=every)
        return [problem for one in every for problem in one.check(recipe)]  # type: ignore[arg-type]

    [problem] = found("lora")
    assert "lora" in problem.message and 'freezing = "full"' in problem.hint
    [problem] = found("head-only")
    assert "head-only trains none of them" in problem.message and "top-layers" in problem.hint
    some, others = Mixout(parameters=("*.mlp.*",)), Mixout(parameters=("*.self_attn.*",))
    assert not found("full") and not found("full", some, others)
    for pair in ((Mixout(), some), (some, Mixout()), (Mixout(), Mixout())):
        [problem] = found("full", *pair)
        assert "two mixout fit the same layers" in problem.message
