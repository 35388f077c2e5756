"""`ewc`: F against one backward pass per row, its file, and runs that use it; test_pulling.py tests the pull."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaForSequenceClassification

from fttool.api import Predictions, RecipeError
from fttool.testing import regularizer_context, run_recipe, tiny_batch, tiny_model, tiny_score
from fttool.testing.tiny import tiny_config, tiny_encoded
from fttool_plugins.freezing.full import Full
from fttool_plugins.freezing.lora import Lora
from fttool_plugins.precision.auto import Auto
from fttool_plugins.precision.bf16 import Bf16
from fttool_plugins.regularizer.ewc import EWC, FILE
from fttool_plugins.regularizer.fisher import diagonal_fisher, sampled_labels, surprise
from fttool_plugins.task.classification import Classification
from fttool_plugins.task.sft import SupervisedFineTuning

from ...rows import write_rows
from ...runs import weights


def importance(strategy: EWC, folder: Path, model: Any = None, **changes: Any) -> dict[str, Tensor]:
    """F as the strategy's pull has it."""
    [pull] = strategy.build(regularizer_context(model or tiny_model(), folder, **changes)).pulls
    assert pull.importance is not None
    return dict(pull.importance())


def by_hand(model: Any, rows: list[Mapping[str, Tensor]], targets: list[Tensor] | None = None) -> dict[str, Tensor]:
    """One forward pass, one backward pass and one square per row, without anything of fttool's."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    model.eval()
    for index, batch in enumerate(rows):
        model.zero_grad()
        learned = batch["labels"][0, 1:] != -100
        logits = model(input_ids=batch["input_ids"]).logits[0, :-1][learned]
        wanted = batch["labels"][0, 1:][learned] if targets is None else targets[index]
        log_likelihood = sum(logits[i].log_softmax(0)[label] for i, label in enumerate(wanted.tolist()))
        assert isinstance(log_likelihood, Tensor)
        log_likelihood.backward()
        for name, p in model.named_parameters():
            total[name] += p.grad**2
    model.train()
    model.zero_grad()
    return {name: values / len(rows) for name, values in total.items()}


def largest_difference(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    """Relative to the largest number of a tensor."""
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max() / two[name].abs().max()) for name in two)


def trace(importance: Mapping[str, Tensor]) -> float:
    return sum(float(values.sum()) for values in importance.values())


ROWS = [tiny_batch([row]) for row in tiny_encoded()]


# -- F ---------------------------------------------------------------------------------------------------------------


def test_empirical_f_is_the_mean_of_squared_gradients_of_single_rows(tmp_path: Path) -> None:
    found = importance(EWC(strength=1, fisher="empirical"), tmp_path)
    assert largest_difference(found, by_hand(tiny_model(), ROWS)) < 1e-6


def test_the_square_of_a_batchs_mean_gradient_is_far_too_small(tmp_path: Path) -> None:
    """The mistake that public code makes: about B-fold. Here B = 8, with rows that have little in common."""
    generator = torch.Generator().manual_seed(3)
    rows = [
        {"input_ids": ids, "labels": ids}
        for ids in (torch.randint(4, 100, (1, 6), generator=generator) for _ in range(8))
    ]
    found = importance(EWC(strength=1, fisher="empirical"), tmp_path, general=lambda _: rows)
    assert largest_difference(found, by_hand(tiny_model(), rows)) < 1e-6
    model = tiny_model().eval()
    (sum(tiny_score(model, row).losses_N.sum() for row in rows) / 8).backward()
    mistaken = {name: p.grad**2 for name, p in model.named_parameters()}
    assert 4 < trace(found) / trace(mistaken) < 10
    assert largest_difference(mistaken, found) > 0.5


def test_true_f_is_of_labels_that_the_model_draws(tmp_path: Path) -> None:
    found = importance(EWC(strength=1), tmp_path)
    model, generator = tiny_model().eval(), torch.Generator().manual_seed(17)
    order = random.Random(17).sample(range(3), 3)
    rows, targets = [ROWS[index] for index in order], []
    for row in rows:
        with torch.no_grad():
            targets.append(
                torch.multinomial(tiny_score(model, row).logits_NV.softmax(-1), 1, generator=generator)[:, 0]
            )
    assert largest_difference(found, by_hand(tiny_model(), rows, targets)) < 1e-6
    assert largest_difference(importance(EWC(strength=1, fisher="empirical"), tmp_path), found) > 0.01


@pytest.mark.full
def test_true_f_tends_to_the_expectation_over_all_labels(tmp_path: Path) -> None:
    """Of one place, where each of the 128 labels can be tried: Σ p(y)·(∂ log p(y) / ∂θ)²."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # so that the model prefers some labels, and F is not all but uniform
    row = {
        "input_ids": torch.tensor([[9, 30, 31]]),
        "labels": torch.tensor([[-100, -100, 31]]),
    }  # and an unlikely label
    probabilities = tiny_score(model.eval(), row).logits_NV[0].softmax(0).detach()
    assert probabilities.max() > 0.1
    expected: dict[str, Tensor] = {}
    for label, probability in enumerate(probabilities):
        for name, values in by_hand(model, [row], [torch.tensor([label])]).items():
            expected[name] = expected.get(name, torch.zeros(())) + probability * values
    found = importance(EWC(strength=1, examples=800), tmp_path, model, general=lambda _: [row] * 800)
    assert trace(found) == pytest.approx(trace(expected), rel=0.05)
    empirical = importance(EWC(strength=1, fisher="empirical"), tmp_path, model, general=lambda _: [row])
    assert abs(trace(empirical) / trace(expected) - 1) > 0.2


def test_rows_of_several_classes_draw_each_for_itself() -> None:
    logits, generator = torch.tensor([[0.0, 9.0, -9.0]]), torch.Generator().manual_seed(0)
    multi = Predictions(logits_NV=logits, targets_N=torch.ones(1, 3), losses_N=torch.zeros(1))
    draws = torch.stack([sampled_labels(multi, generator) for _ in range(200)]).mean(0)[0]
    assert 0.4 < draws[0] < 0.6 and draws[1] > 0.98 and draws[2] < 0.02
    expected = -(torch.tensor([0.5]).log() + logits[0, 1].sigmoid().log() + (1 - logits[0, 2].sigmoid()).log())
    assert surprise(logits, torch.tensor([[1.0, 1.0, 0.0]])) == pytest.approx(float(expected))


def test_the_model_is_in_evaluation_mode_and_comes_back_as_it_was(tmp_path: Path) -> None:
    model = tiny_model(attention_dropout=0.5)
    frozen = model.get_input_embeddings().weight.requires_grad_(False)
    state, drawn_before = {n: p.clone() for n, p in model.state_dict().items()}, torch.get_rng_state()
    found = importance(
        EWC(strength=1), tmp_path, model, trained=frozenset(n for n, p in model.named_parameters() if p is not frozen)
    )
    again = importance(EWC(strength=1), tmp_path)
    assert "model.embed_tokens.weight" not in found
    assert all(torch.equal(values, again[name]) for name, values in found.items())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, state[name]) for name, p in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn_before), "a run without ewc would draw other dropout"


def test_the_seed_chooses_examples_and_all_are_taken_where_there_are_few(tmp_path: Path) -> None:
    seen: list[int] = []

    class Rows(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            seen.append(index)
            return super().__getitem__(index)

    def chosen(examples: int, seed: int) -> set[int]:
        seen.clear()
        importance(EWC(strength=1, examples=examples), tmp_path, general=lambda _: Rows(ROWS * 5), seed=seed)
        assert len(set(seen)) == len(seen)
        return set(seen)

    assert chosen(99, 1) == set(range(15))
    assert len(chosen(4, 1)) == 4
    assert chosen(4, 1) == chosen(4, 1) != chosen(4, 2)


def test_rows_names_the_dataset(tmp_path: Path) -> None:
    asked: list[str | None] = []

    def general(name: str | None) -> Any:
        asked.append(name)
        return ROWS

    importance(EWC(strength=1, rows="wiki"), tmp_path, general=general)
    importance(EWC(strength=1), tmp_path, general=general)
    assert asked == ["wiki", None]


def test_only_pre_trained_weights_that_train_and_fit_a_pattern_are_pulled(tmp_path: Path) -> None:
    model = tiny_model()
    names = frozenset(name for name, _ in model.named_parameters())
    trained = frozenset(name for name in names if ".layers.1." in name or name == "lm_head.weight")
    context = regularizer_context(model, tmp_path, trained=trained, new=frozenset({"lm_head.weight"}))
    strategy = EWC(strength=3, parameters=("*.mlp.*", "lm_head.*"))
    [pull] = strategy.build(context).pulls
    pulled = {name for name in names if pull.coefficient(name)}
    assert pulled == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    assert {pull.coefficient(name) for name in pulled} == {3.0}
    assert pull.importance is not None and pull.importance().keys() == pulled
    with pytest.raises(RecipeError, match="none of those that train are"):
        strategy.build(regularizer_context(model, tmp_path, trained=frozenset({"lm_head.weight"}), new=context.new))


def test_a_gradient_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
    with pytest.raises(Exception, match="is not finite"):
        importance(EWC(strength=1, fisher="empirical"), tmp_path, model)


def test_a_parameter_that_no_row_reaches_has_an_importance_of_zero() -> None:
    model = LlamaForSequenceClassification(tiny_config(num_labels=2))
    spare = nn.Parameter(torch.ones(3))
    batch = {"input_ids": torch.tensor([[5, 6]]), "targets": torch.tensor([1])}

    def score(model: Any, batch: Any) -> Predictions:
        logits = model(input_ids=batch["input_ids"]).logits
        return Predictions(logits_NV=logits, targets_N=batch["targets"], losses_N=logits[:, 0])

    found, labels = diagonal_fisher(
        model, [batch], score, {"score": model.score.weight, "spare": spare}, generator=None
    )
    assert labels == 1 and not found["spare"].any() and found["score"].any()


# -- the file --------------------------------------------------------------------------------------------------------


def notes(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_file_holds_f_and_how_it_was_found(tmp_path: Path) -> None:
    found = importance(EWC(strength=7, fisher="empirical", rows="wiki"), tmp_path)
    stored = load_file(tmp_path / FILE)
    assert all(torch.equal(values, stored[name]) for name, values in found.items()) and stored.keys() == found.keys()
    said = notes(tmp_path / FILE)
    assert said["kind"] == "empirical" and said["examples"] == "3" and said["rows"] == "wiki" and said["seed"] == "17"
    assert said["labels"] == str(sum(int((row["labels"] != -100).sum()) for row in ROWS))
    assert "summed over an example's labels" in said["normalisation"]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_file_is_used_instead_of_rows(tmp_path: Path) -> None:
    found = importance(EWC(strength=1), tmp_path)
    (tmp_path / FILE).rename(tmp_path / "f.safetensors")

    def general(_: Any) -> Any:
        raise AssertionError("no rows are needed")

    again = importance(EWC(strength=1, file="f.safetensors"), tmp_path, general=general)
    assert all(torch.equal(values, again[name]) for name, values in found.items())
    assert not (tmp_path / FILE).exists()


def test_several_tasks_add_up(tmp_path: Path) -> None:
    """F = γ·F_previous + F, whether F is computed or read; and what is written is the sum, for the task after."""
    first = importance(EWC(strength=1, fisher="empirical"), tmp_path)
    (tmp_path / FILE).rename(tmp_path / "first.safetensors")
    later = tiny_model()
    with torch.no_grad():
        for p in later.parameters():
            p.mul_(1.1)
    second = importance(EWC(strength=1, fisher="empirical"), tmp_path, later)
    (tmp_path / FILE).rename(tmp_path / "second.safetensors")
    expected = {name: 0.9 * first[name] + second[name] for name in first}
    for options in ({"fisher": "empirical"}, {"file": "second.safetensors"}):
        both = importance(EWC(strength=1, previous="first.safetensors", gamma=0.9, **options), tmp_path, later)
        assert largest_difference(both, expected) < 1e-6
        assert largest_difference(load_file(tmp_path / FILE), expected) < 1e-6
        assert (
            notes(tmp_path / FILE).items()
            >= {"kind": "empirical", "previous": "first.safetensors", "gamma": "0.9"}.items()
        )


def saved(path: Path, change: Any = lambda tensors: None, **said: str) -> None:
    tensors = {name: torch.ones_like(p.detach()) for name, p in tiny_model().named_parameters()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt", **said})


BAD_FILES: dict[str, tuple[Any, str]] = {
    "missing": (lambda path: None, "the importance file"),
    "another shape": (
        lambda path: saved(path, lambda t: t.update({"lm_head.weight": torch.ones(128, 8)})),
        r"'lm_head.weight' is \(128, 8\) there and \(128, 16\) here",
    ),
    "a parameter too many": (
        lambda path: saved(path, lambda t: t.update(extra=torch.ones(2))),
        "this one has no parameter 'extra'",
    ),
    "a parameter too few": (
        lambda path: saved(path, lambda t: t.pop("lm_head.weight")),
        r"no importance of 1 parameters that train \('lm_head.weight' …\)",
    ),
    "other weights": (lambda path: saved(path, weights="0" * 32), "computed for other weights"),
    "cut off": (
        lambda path: (saved(path), path.write_bytes(path.read_bytes()[:-9])),
        "not a complete safetensors file",
    ),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"lm_head.weight": 1})), "not a complete safetensors file"),
    "empty": (lambda path: path.write_bytes(b""), "not a complete safetensors file"),
}


@pytest.mark.parametrize(("make", "said"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_of_another_model_is_refused_before_training(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "f.safetensors")
    with pytest.raises(RecipeError, match=said) as caught:
        EWC(strength=1, file="f.safetensors").build(regularizer_context(tiny_model(), tmp_path))
    assert caught.value.problems[0].hint


@pytest.mark.parametrize("number", [-1.0, torch.nan, torch.inf])
def test_numbers_that_no_importance_has_are_refused(tmp_path: Path, number: float) -> None:
    saved(tmp_path / "f.safetensors", lambda tensors: tensors["lm_head.weight"][3, 3].fill_(number))
    with pytest.raises(RecipeError, match=r"'lm_head\.weight' that are below 0 or not finite"):
        importance(EWC(strength=1, file="f.safetensors"), tmp_path)


# -- the recipe ------------------------------------------------------------------------------------------------------


def problems(
    strategy: EWC,
    *,
    general: tuple[str, ...] = ("wiki",),
    others: tuple[Any, ...] = (),
    precision: Any = None,
    freezing: Any = None,
    task: Any = None,
) -> list[Any]:
    recipe = SimpleNamespace(
        data=SimpleNamespace(general=[SimpleNamespace(dataset=name) for name in general]),
        precision=precision or Auto(),
        regularizers=(*others, strategy),
        freezing=freezing or Full(),
        task=task or SupervisedFineTuning(),
    )
    return list(strategy.check(recipe))  # type: ignore[arg-type]


def test_what_cannot_go_together() -> None:
    one = EWC(strength=1)
    assert problems(one) == []
    assert "needs rows that represent what the model knew" in problems(one, general=())[0].message
    assert problems(EWC(strength=1, file="f"), general=()) == []
    assert "did you mean 'wiki'" in problems(EWC(strength=1, rows="wikki"))[0].hint
    assert "computes nothing on rows" in problems(EWC(strength=1, file="f", rows="wiki"))[0].message
    assert "no previous" in problems(EWC(strength=1, gamma=0.5))[0].message
    assert "two ewc" in problems(one, others=(EWC(strength=2),))[0].message
    assert problems(EWC(strength=1, file="f"), others=(EWC(strength=2),)) == []
    assert problems(one, precision=Bf16(weights="bfloat16"))[0].key == ("precision", "weights")
    assert "lora trains others" in problems(one, freezing=Lora())[0].message
    assert problems(one, freezing=Lora(), task=Classification()) == [], "its head may be pre-trained, and trains whole"


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], fttool_rows: Path, tmp_path: Path) -> dict[str, Any]:
    general = tmp_path / "general.jsonl"
    turns = [
        [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n}! " * 3}] for n in range(9)
    ]
    write_rows(general, ({"messages": one} for one in turns))
    fttool_recipe["data"]["general"] = [{"path": str(general), "name": "wiki"}]
    fttool_recipe["regularizers"] = [{"name": "ewc", "strength": 100, "examples": 6}]
    return fttool_recipe


def test_a_run_computes_f_once_in_float32_and_others_can_use_it(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Also where the run computes in bf16; and with the file, the very same run."""
    computed = run_recipe(recipe, tmp_path)
    half = run_recipe(recipe, tmp_path, overrides=["run.name=half", "precision.name=bf16"])
    one, two = load_file(computed.run_dir / FILE), load_file(half.run_dir / FILE)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(a, b) for a, b in zip(weights(computed).values(), weights(half).values(), strict=True))

    recipe["regularizers"] = [{"name": "ewc", "strength": 100, "file": str(computed.run_dir / FILE)}]
    reused = run_recipe(recipe, tmp_path, overrides=["run.name=reused"])
    assert not (reused.run_dir / FILE).exists()
    assert all(torch.equal(weights(reused)[name], tensor) for name, tensor in weights(computed).items())
    free = run_recipe({**recipe, "regularizers": []}, tmp_path, overrides=["run.name=free"])
    assert not all(torch.equal(a, b) for a, b in zip(weights(computed).values(), weights(free).values(), strict=True))
    assert all(line["penalty"] >= 0 for line in computed.metrics if "penalty" in line)
    assert max(line["penalty"] for line in computed.metrics if "penalty" in line) > 0


def test_the_file_is_part_of_what_makes_the_run(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """`lock.json` has its hash, and a run with another one is not the same run."""
    made = run_recipe(recipe, tmp_path).run_dir / FILE
    file = tmp_path / "importance.safetensors"
    shutil.copy(made, file)
    recipe["regularizers"] = [{"name": "ewc", "strength": 100, "file": file.name}]
    run = run_recipe(recipe, tmp_path, overrides=["run.name=locked"])
    (noted,) = (e for e in json.loads((run.run_dir / "lock.json").read_text())["files"] if "regularizers" in e["table"])
    assert noted["table"] == "regularizers.0.file"
    assert noted["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    save_file({name: values * 5 for name, values in load_file(file).items()}, file)
    again = run_recipe(recipe, tmp_path, overrides=["run.name=locked"], resume=True)
    assert again.exit_code == 2 and "regularizers.0.file" in str(again.error)


def test_a_run_is_refused_with_the_place_of_the_file(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["regularizers"] = [{"name": "ewc", "strength": 100, "file": "nowhere.safetensors"}]
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 3 and not run.run_dir.exists()
    assert "the importance file" in str(run.error) and "recipe.toml:" in str(run.error)


def test_a_run_without_general_rows_is_refused_by_validation(tmp_path: Path, recipe: dict[str, Any]) -> None:
    del recipe["data"]["general"]
    run = run_recipe(recipe, tmp_path)
    assert run.exit_code == 3 and "[[data.general]]" in str(run.error) and "recipe.toml:" in str(run.error)


@pytest.mark.parametrize("several", [False, True], ids=["one class", "several"])
def test_a_classifier_weighs_its_backbone_on_general_rows_with_classes(
    tmp_path: Path, fttool_recipe: dict[str, Any], several: bool
) -> None:
    """Its new head has nothing to forget."""
    file = tmp_path / "classes.jsonl"
    labels = [["a"], ["b"], ["a", "b"]] if several else ["a", "b", "b"]
    write_rows(file, ({"text": f"row {n}", "label": labels[n % 3]} for n in range(12)))
    fttool_recipe["task"] = {"name": "classification", "multi_label": several}
    fttool_recipe["data"] = {"train": [{"path": str(file)}], "general": [{"path": str(file), "name": "old"}]}
    fttool_recipe["regularizers"] = [{"name": "ewc", "strength": 10, "examples": 5}]
    run = run_recipe(fttool_recipe, tmp_path)
    assert run.error is None
    weighed = load_file(run.run_dir / FILE)
    assert weighed.keys() == weights(run).keys() - {"score.weight"} and notes(run.run_dir / FILE)["labels"] == "5"
    assert all(values.any() for name, values in weighed.items() if "layers" in name)


def test_a_head_over_kept_features_is_weighed_too(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """`head-only` computes the base model once per row; importance is found on other rows, with all of it."""
    recipe["freezing"] = "head-only"
    run = run_recipe(recipe, tmp_path)
    weighed = load_file(run.run_dir / FILE)
    assert run.error is None and weighed.keys() == {"lm_head.weight"} and weighed["lm_head.weight"].any()
