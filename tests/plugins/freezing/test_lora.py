"""`lora`: adapters beside frozen linear layers; what they add, what is saved of them, and how a run goes on."""

import json
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from fttool.api import FreezingContext, FreezingPlan, ModelError, RecipeError, layers
from fttool.cli import main
from fttool.testing import RunResult, run_recipe, tiny_model, tiny_tokenizer
from fttool.training.groups import freeze_the_rest, make_groups
from fttool_plugins.freezing.lora import Lora

from ...architectures import CAUSAL, ENCODERS, batch, tiny
from ...rows import write_rows
from ...runs import losses

VARIANTS: dict[str, dict[str, Any]] = {"lora": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}

loading_peft = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
"""peft asks transformers by the old name."""


def built(strategy: Lora, model: PreTrainedModel, new: frozenset[str] = frozenset()) -> FreezingPlan:
    context = {"total_steps": 10, "steps_per_epoch": 5, "seed": 5, "new": new}
    return strategy.build(FreezingContext(model=model, layers=layers(model), **context))


def inputs(kind: str) -> Mapping[str, Tensor]:
    return {"input_ids": batch(kind)["input_ids"]}


def logits(model: nn.Module, kind: str) -> Tensor:
    with torch.no_grad():
        return model.eval()(**inputs(kind)).logits


def train(model: PreTrainedModel, unfreezing: FreezingPlan, kind: str, updates: int = 3) -> set[str]:
    """Some updates with a large rate; returns the names of what changed."""
    groups = make_groups(
        dict(model.named_parameters()), unfreezing.units, lambda _: 1.0, lr=1, weight_decay=0, pulls=[]
    )
    freeze_the_rest(model, groups)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(updates):
        model(**batch(kind)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


# -- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("kind", [*CAUSAL, *ENCODERS])
def test_on_any_architecture(kind: str, variant: str, tmp_path: Path) -> None:
    """The first update starts from the model as it was, only adapters (and a new head) change, all can be merged."""
    model, original = tiny(kind), tiny(kind)
    names = {name for name, _ in model.named_parameters()}
    unfreezing = built(Lora(rank=4, **VARIANTS[variant]), model)
    at_first, before = logits(model, kind), logits(original, kind)
    torch.testing.assert_close(at_first, before, rtol=0, atol=1e-6 if variant == "dora" else 0)
    changed = train(model, unfreezing, kind)
    [unit] = unfreezing.units
    head = set(layers(model).head) if kind in ENCODERS else set[str]()
    assert changed == unit.parameters == {name for name in unit.parameters if ".lora_" in name} | head
    trained = logits(model, kind)
    assert not torch.allclose(trained, before, atol=1e-3)
    assert unfreezing.export is not None
    unfreezing.export(model, tmp_path)
    assert {name for name, _ in model.named_parameters()} == names
    torch.testing.assert_close(logits(model, kind), trained, rtol=0, atol=1e-5)


def product(config: Mapping[str, Any], tensors: Mapping[str, Tensor], layer: str) -> Tensor:
    """s·B·A of one layer, from the files of an adapter."""
    a, b = (tensors[f"base_model.model.{layer}.lora_{which}.weight"].double() for which in "AB")
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
    return scale * (b @ a)


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_merged_weights_are_those_of_the_formula(kind: str, variant: str, tmp_path: Path) -> None:
    model, original = tiny(kind), dict(tiny(kind).named_parameters())
    unfreezing = built(Lora(rank=4, alpha=6, **VARIANTS[variant]), model)
    train(model, unfreezing, kind)
    assert unfreezing.export is not None
    unfreezing.export(model, tmp_path)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    factors = [name.removeprefix("base_model.model.") for name in tensors if "lora_A" in name]
    with_adapter = {name.rpartition(".lora_A.")[0] for name in factors}
    assert len(with_adapter) == 3 * {"llama": 7, "gpt2": 4, "bert": 6}[kind]
    for name, p in model.named_parameters():
        layer, _, last = name.rpartition(".")
        if layer not in with_adapter or last != "weight":
            continue
        weight = original[name].double()
        weight = weight.T if kind == "gpt2" else weight  # its layers are (in, out)
        expected = weight + product(config, tensors, layer)
        if variant == "dora":
            length = tensors[f"base_model.model.{layer}.lora_magnitude_vector"].double()
            expected = length[:, None] * expected / expected.norm(dim=1, keepdim=True)
        torch.testing.assert_close(p.double(), expected.T if kind == "gpt2" else expected, rtol=0, atol=1e-6)


def test_the_same_seed_draws_the_same_adapters_and_nothing_else() -> None:
    state = torch.random.get_rng_state()
    one, other, another = (tiny_model() for _ in range(3))
    built(Lora(), one), built(Lora(), other)
    context = FreezingContext(model=another, layers=layers(another), total_steps=1, steps_per_epoch=1, seed=6)
    Lora().build(context)
    assert torch.equal(torch.random.get_rng_state(), state)
    drawn = [{name: p for name, p in model.named_parameters() if "lora_A" in name} for model in (one, other, another)]
    assert drawn[0]
    for name, p in drawn[0].items():
        assert torch.equal(p, drawn[1][name]) and not torch.equal(p, drawn[2][name]), name


def test_adapters_over_16_bit_weights_are_in_float32() -> None:
    model = tiny_model().to(torch.bfloat16)
    unfreezing = built(Lora(), model)
    dtypes = {".lora_" in name: p.dtype for name, p in model.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    assert train(model, unfreezing, "llama", updates=1)


# -- which layers --------------------------------------------------------------------------------------------------


def adapted(model: PreTrainedModel) -> set[str]:
    return {name.removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith(".lora_A")}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], ["0.self_attn.q_proj", "1.self_attn.q_proj"]),
        (["self_attn.q_proj"], ["0.self_attn.q_proj", "1.self_attn.q_proj"]),
        (["model.layers.1.mlp.u*", "v_proj"], ["1.mlp.up_proj", "0.self_attn.v_proj", "1.self_attn.v_proj"]),
        (["layers.1.self_attn.[qk]_proj"], ["1.self_attn.q_proj", "1.self_attn.k_proj"]),
    ],
)
@loading_peft
def test_targets_are_names_ends_of_names_or_patterns(targets: list[str], expected: list[str], tmp_path: Path) -> None:
    model = tiny_model()
    unfreezing = built(Lora(targets=tuple(targets)), model)
    assert adapted(model) == {f"model.layers.{name}" for name in expected}
    assert unfreezing.export is not None
    unfreezing.export(model, tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path / "adapter")
    assert adapted(loaded.get_base_model()) == {f"model.layers.{name}" for name in expected}


@pytest.mark.parametrize("target", ["lm_head", "qproj", "embed_tokens", "model.norm"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_target_that_is_none_is_named_with_those_there_are(target: str, tied: bool) -> None:
    with pytest.raises(RecipeError, match=f"no linear layer is called '{target}'") as refused:
        built(Lora(targets=("q_proj", target)), tiny_model(tie_word_embeddings=tied))
    [problem] = refused.value.problems
    assert problem.key == ("freezing", "targets", 1)
    assert "down_proj, gate_proj, k_proj" in problem.hint and "the head get no adapter" in problem.hint


def test_layers_that_peft_refuses_are_named_with_the_others() -> None:
    options = {"vocab_size": 48, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}

    def mamba() -> PreTrainedModel:
        return AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **options))

    with pytest.raises(ModelError, match="'out_proj' is incompatible with Mamba") as refused:
        built(Lora(), mamba())
    [problem] = refused.value.problems
    assert problem.key == ("freezing", "targets")
    assert problem.hint == 'name the others: freezing.targets = ["dt_proj", "in_proj", "x_proj"]'
    built(Lora(targets=("dt_proj", "in_proj", "x_proj")), mamba())


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="needs peft") as refused:
        built(Lora(), tiny_model())
    assert refused.value.problems[0].hint == "pip install 'fttool[lora]'"


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    fttool_recipe["run"] = {"max_steps": 6, "micro_batch": 2, "global_batch": 8, "log_every": 1, "seed": 3}
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 2e-2}
    fttool_recipe["freezing"] = {"name": "lora", "rank": 4, "dropout": 0.2}
    fttool_recipe["checkpoints"] = {"every": 1, "keep": 9}
    return fttool_recipe


def base(recipe: dict[str, Any]) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(recipe["model"]["source"])


IDS = torch.arange(5, 25).unsqueeze(0)


@loading_peft
@pytest.mark.parametrize("variant", ["lora", "dora"])
@pytest.mark.parametrize("merge", [True, False])
def test_model_and_adapter_load_in_plain_transformers_and_peft(
    recipe: dict[str, Any], tmp_path: Path, merge: bool, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["freezing"] |= {"merge": merge, **VARIANTS[variant]}
    run = run_recipe(recipe, tmp_path)
    assert losses(run)[-1] < losses(run)[0]
    adapter = PeftModel.from_pretrained(base(recipe), run.run_dir / "adapter").eval()
    model, report = AutoModelForCausalLM.from_pretrained(run.run_dir / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, adapter(IDS).logits, rtol=0, atol=1e-5)
        assert not torch.allclose(model(IDS).logits, base(recipe)(IDS).logits, atol=1e-2)
    names = {path.name for path in (run.run_dir / "model").iterdir()}
    assert ("adapter_model.safetensors" in names) != merge
    if not merge:  # peft reads the copy in `model/` as well
        again = PeftModel.from_pretrained(base(recipe), run.run_dir / "model").eval()
        with torch.no_grad():
            assert torch.equal(again(IDS).logits, adapter(IDS).logits)
    own, before = load_file(run.run_dir / "model" / "model.safetensors"), base(recipe).state_dict()
    assert own.keys() == before.keys()
    assert all(torch.equal(own[name], before[name]) for name in own) != merge
    assert main(["generate", str(run.run_dir), "What comes after 3?", "--max-tokens", "5"]) == 0
    assert "cannot" not in capsys.readouterr().err


def test_a_model_with_its_adapter_apart_is_never_taken_for_the_base(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["freezing"]["merge"] = False
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    for name in ("model", "adapter"):  # neither as the start of another run
        refused = run_recipe(recipe, tmp_path, overrides=[f"model.source={run.run_dir / name}", "run.name=other"])
        assert refused.exit_code == 5 and "holds an adapter" in str(refused.error)
        assert "freezing.merge = true" in str(refused.error)
    monkeypatch.setattr("fttool.rundir.saved.find_spec", lambda name: None)  # nor to answer, where peft is not there
    assert main(["generate", str(run.run_dir), "What comes after 3?"]) == 5
    assert "peft is not installed" in capsys.readouterr().err


def test_a_checkpoint_holds_the_adapters_alone_and_resumes_bitwise(recipe: dict[str, Any], tmp_path: Path) -> None:
    whole = run_recipe(recipe, tmp_path)
    checkpoint = whole.run_dir / "checkpoints" / "checkpoint-3"
    held = load_file(checkpoint / "trained.safetensors")
    assert held and all(".lora_" in name for name in held)
    assert sum(tensor.numel() for tensor in held.values()) == whole.summary["trained_parameters"]
    assert not list(checkpoint.glob("model*"))
    folder = tmp_path / "resumed"
    shutil.copytree(whole.run_dir, folder / "runs" / "recipe")
    for step in (4, 5, 6):
        shutil.rmtree(folder / "runs" / "recipe" / "checkpoints" / f"checkpoint-{step}")
    resumed = run_recipe(recipe, folder, resume=True)
    assert losses(resumed) == losses(whole)
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        one, other = (load_file(run.run_dir / file) for run in (whole, resumed))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_checkpoint_becomes_model_and_adapter(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["run"]["max_steps"] = 30
    recipe["optimizer"]["lr"] = 0.3  # learns fast, then only gets worse
    recipe["schedule"] = "constant"
    recipe["data"]["eval_share"] = 0.2
    recipe["evaluation"] = {"every": 1, "early_stopping": 3, "best": "loss", "samples": 1}
    run = run_recipe(recipe, tmp_path)
    best = run.summary["best"]["step"]
    assert run.error is None and 0 < best < run.summary["steps"]
    held = load_file(run.run_dir / "checkpoints" / f"checkpoint-{best}" / "trained.safetensors")
    adapter = load_file(run.run_dir / "adapter" / "adapter_model.safetensors")
    for name, tensor in held.items():
        assert torch.equal(adapter[f"base_model.model.{name.replace('.default', '')}"], tensor), name


@pytest.mark.full
@pytest.mark.parametrize("change", ["model.gradient_checkpointing=true", "run.micro_batch=8"])
def test_what_must_not_change_the_result_does_not(recipe: dict[str, Any], tmp_path: Path, change: str) -> None:
    recipe["freezing"]["dropout"] = 0.0
    plain = run_recipe(recipe, tmp_path)
    other = run_recipe(recipe, tmp_path, overrides=[change, "run.name=other"])
    assert losses(plain) == pytest.approx(losses(other), rel=1e-5)


def test_memory_is_that_of_the_adapters(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = run_recipe(recipe, tmp_path)
    trained, [rank] = run.summary["trained_parameters"], run.summary["sharding"]["ranks"]
    assert rank["gradient_bytes"] == 4 * trained
    assert rank["optimizer_bytes"] == pytest.approx(8 * trained, rel=0.01)
    assert rank["parameter_bytes"] == 4 * run.summary["parameters"]
    assert run.summary["parameters"] == sum(p.numel() for p in base(recipe).parameters()) + trained


def test_a_pull_towards_the_start_acts_on_the_factors(recipe: dict[str, Any], tmp_path: Path) -> None:
    free = run_recipe(recipe, tmp_path)
    recipe["regularizers"] = [{"name": "l2-init", "strength": 10.0}]
    held = run_recipe(recipe, tmp_path, overrides=["run.name=held"])
    assert held.error is None

    def size(run: RunResult) -> float:
        tensors = load_file(run.run_dir / "adapter" / "adapter_model.safetensors")
        return sum(float(tensor.norm()) for name, tensor in tensors.items() if "lora_B" in name)

    assert size(held) < 0.5 * size(free)


def test_mixout_is_refused_before_a_model_loads(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["regularizers"] = ["mixout"]
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 3 and "mixout" in str(refused.error) and "lora" in str(refused.error)


@loading_peft
@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("kind", list(ENCODERS))
def test_the_head_of_a_classifier_trains_as_a_whole(
    recipe: dict[str, Any], tmp_path: Path, kind: str, merge: bool
) -> None:
    narrow = tiny(kind).base_model
    config = type(narrow.config)(**{**narrow.config.to_dict(), "vocab_size": 128})
    folder = tmp_path / "encoder"
    type(narrow)(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    rows = [{"text": "abc"[n % 3] * (3 + n % 5), "label": "xyz"[n % 3]} for n in range(24)]
    write_rows(tmp_path / "rows.jsonl", rows)
    recipe |= {
        "task": "classification",
        "model": {"source": str(folder)},
        "data": {"train": [{"path": "rows.jsonl"}]},
        "batching": {"name": "bucketed", "max_length": 32},
    }
    recipe["freezing"] = {"name": "lora", "rank": 4, "merge": merge}
    run = run_recipe(recipe, tmp_path)
    assert losses(run)[-1] < losses(run)[0]
    model, report = AutoModelForSequenceClassification.from_pretrained(run.run_dir / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert set(model.config.id2label.values()) == set("xyz")
    start = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    loaded = PeftModel.from_pretrained(start, run.run_dir / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(IDS).logits, loaded(IDS).logits, rtol=0, atol=1e-5)
