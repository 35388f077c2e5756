"""Classification: losses against transformers' own, alone and padded, on encoders and decoders; weights, runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Trainer,
    pipeline,
)

from fttool.api import DataError, ModelError, RecipeError, TaskContext
from fttool.testing import run_recipe, tiny_tokenizer
from fttool_plugins.task import classes
from fttool_plugins.task.classification import Classification, configuration, score
from fttool_plugins.task.heads import agree, set_padding

from ...architectures import CLASSIFIERS, SIZES
from ...encoder import save_encoder, tokenizer
from ...rows import write_rows

LENGTHS = (3, 9, 6)
NAMES = ("a", "b", "c")


def tiny(kind: str, *, multi_label: bool = False, pad_token_id: int | None = None) -> Any:
    """A classifier of three classes, as the task asks for it; the padding token is set as in a run."""
    torch.manual_seed(0)
    special = {"pad_token_id": pad_token_id, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, **CLASSIFIERS[kind], **special, **configuration(NAMES, multi_label=multi_label))
    model = AutoModelForSequenceClassification.from_config(config)
    tokenizer = tiny_tokenizer()
    set_padding(model, tokenizer)
    return model.eval()


def rows() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(4, 48, (length,), generator=generator).tolist() for length in LENGTHS]


def batch(targets: Tensor) -> dict[str, Tensor]:
    """The rows, padded on the right."""
    padded = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    mask = torch.zeros_like(padded)
    for index, row in enumerate(rows()):
        padded[index, : len(row)], mask[index, : len(row)] = torch.tensor(row), 1
    return {"input_ids": padded, "attention_mask": mask, "labels": torch.full_like(padded, -100), "targets": targets}


@pytest.mark.parametrize("multi_label", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_losses_are_transformers_own_and_padding_changes_nothing(kind: str, multi_label: bool) -> None:
    """Each row alone, without padding, through transformers' loss; against all rows together through ours."""
    model = tiny(kind, multi_label=multi_label)
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 1]]) if multi_label else torch.tensor([2, 0, 1])
    seen = score(model, batch(targets))
    for index, row in enumerate(rows()):
        alone = model(input_ids=torch.tensor([row]), labels=targets[index : index + 1])
        torch.testing.assert_close(seen.losses_N[index], alone.loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(seen.logits_NV[index], alone.logits[0], rtol=1e-5, atol=1e-6)
    assert seen.targets_N is targets


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_reads_the_last_token_of_each_row(kind: str) -> None:
    """Its logits are the head's at the row's last token, also where the end-of-text token serves as padding."""
    model = tiny(kind)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    set_padding(model, tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token and model.config.pad_token_id == tokenizer.eos_token_id
    given = batch(torch.tensor([0, 1, 2]))
    given["input_ids"][given["attention_mask"] == 0] = tokenizer.eos_token_id
    base = model.base_model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    ends = torch.tensor(LENGTHS) - 1
    expected = model.score(base)[torch.arange(3), ends]
    torch.testing.assert_close(score(model, given).logits_NV, expected, rtol=1e-5, atol=1e-6)


def test_a_tokenizer_without_an_end_cannot_pad() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    with pytest.raises(ModelError, match="neither a padding nor an end-of-text token"):
        set_padding(tiny("bert"), tokenizer)


def test_a_model_that_reads_a_row_at_its_end_needs_one() -> None:
    """Of each row, and as many in all rows of a batch."""
    torch.manual_seed(0)
    options = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    special = {
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 3,
        **configuration(NAMES, multi_label=False),
    }
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("t5", **options, **special)).eval()
    agree(model, tokenizer())  # its [SEP] is the model's end
    with pytest.raises(
        ModelError, match="T5ForSequenceClassification reads a text at its end-of-text token"
    ) as refused:
        agree(model, tokenizer(special=False))
    assert refused.value.problems[0].key == ("model", "source") and "tokenizer.json" in refused.value.problems[0].hint
    given = batch(torch.tensor([0, 1, 2]))
    for index, length in enumerate(LENGTHS):
        given["input_ids"][index, length - 1] = 3
    assert score(model, given).logits_NV.shape == (3, 3)
    given["input_ids"][1, 0] = 3
    with pytest.raises(DataError, match="rows of a batch differ") as differ:
        score(model, given)
    assert "give all rows a second text or none" in differ.value.problems[0].hint


# -- classes -------------------------------------------------------------------------------------------------------


def test_names_are_in_order_and_numbers_by_value() -> None:
    assert classes.in_order(["spam", "ham"]) == ("ham", "spam")
    assert classes.in_order(["10", "2", "0"]) == ("0", "2", "10")
    assert classes.in_order(["10", "2", "x"]) == ("10", "2", "x")


def test_targets() -> None:
    assert classes.targets([("b",), ("a",)], NAMES, multi_label=False).tolist() == [1, 0]
    hot = classes.targets([("b", "c"), ()], NAMES, multi_label=True)
    assert hot.tolist() == [[0, 1, 1], [0, 0, 0]] and hot.dtype == torch.float32
    for row, said in ((("d",), "no training row has the class 'd'"), (("a", "b"), "'a' and 'b'"), ((), "no class")):
        with pytest.raises(ValueError, match=said):
            classes.targets([row], NAMES, multi_label=False)


def test_balanced_weights_are_scikit_learns() -> None:
    weights = classes.balanced({"a": 5, "b": 3, "c": 2}, NAMES, 10, multi_label=False)
    # compute_class_weight("balanced", …) of the same rows
    assert weights == pytest.approx([0.6666666666666666, 1.1111111111111112, 1.6666666666666667], rel=1e-12)
    assert 5 * weights[0] + 3 * weights[1] + 2 * weights[2] == pytest.approx(10, rel=1e-12)
    assert classes.balanced({"a": 5, "b": 3, "c": 10}, NAMES, 10, multi_label=True) == pytest.approx([1.0, 7 / 3, 1.0])


def test_weights_count_in_training_and_not_where_it_is_measured() -> None:
    model, given, weights = tiny("llama"), batch(torch.tensor([2, 0, 1])), [2.0, 3.0, 5.0]
    plain = score(model, given).losses_N
    torch.testing.assert_close(score(model, given, weights).losses_N, plain, rtol=0, atol=0)
    weighed = score(model.train(), given, weights).losses_N
    torch.testing.assert_close(weighed, plain * torch.tensor([5.0, 2.0, 3.0]), rtol=1e-6, atol=1e-7)


def test_weights_of_several_classes_are_those_of_a_naive_loop() -> None:
    targets, weights = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 1]]), [2.0, 3.0, 5.0]
    model = tiny("llama", multi_label=True).train()
    seen = score(model, batch(targets), weights)
    logits_NV = seen.logits_NV.detach()
    for row in range(3):
        terms = []
        for place, weight in enumerate(weights):
            p = 1 / (1 + math.exp(-float(logits_NV[row, place])))
            terms.append(-weight * math.log(p) if targets[row, place] else -math.log(1 - p))
        assert float(seen.losses_N[row].detach()) == pytest.approx(sum(terms) / 3, rel=1e-5)


def build(counts: dict[str, int], **options: Any) -> Any:
    return Classification(**options).build(TaskContext(label_counts=counts, rows=sum(counts.values())))


def test_the_configuration_names_the_classes() -> None:
    parts = build({"spam": 2, "ham": 3}, labels=("spam", "ham"))
    assert parts.trainer_class is Trainer and parts.labels == ("spam", "ham")
    assert parts.config == {
        "num_labels": 2,
        "id2label": {0: "spam", 1: "ham"},
        "label2id": {"spam": 0, "ham": 1},
        "problem_type": "single_label_classification",
    }


def test_classes_that_cannot_be_learned_are_refused() -> None:
    with pytest.raises(DataError, match="all training rows have the class 'spam'"):
        build({"spam": 5})
    with pytest.raises(DataError, match="'tofu', which no training row has"):
        build({"spam": 1, "ham": 1}, labels=("spam", "ham", "tofu"))
    with pytest.raises(DataError, match="lacks the class 'tofu'"):
        build({"spam": 1, "ham": 1, "tofu": 1}, labels=("spam", "ham"))
    with pytest.raises(RecipeError, match="'spma', which is not a class"):
        build({"spam": 1, "ham": 1}, class_weights={"spma": 2.0})
    assert build({"spam": 5}, multi_label=True).labels == ("spam",)


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """24 rows of three classes, told apart by one letter each."""
    file = tmp_path / "rows.jsonl"
    lines = [{"text": f"{'xyz'[n % 3] * 4} number {n} " + "and " * (n % 5), "label": NAMES[n % 3]} for n in range(24)]
    write_rows(file, lines)
    return {
        "recipe": 1,
        "task": "classification",
        "run": {"max_steps": 6, "micro_batch": 8, "log_every": 1},
        "model": {"source": str(fttool_tiny_model)},
        "data": {"train": [{"path": "rows.jsonl"}], "eval_share": 0.3},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "precision": {"name": "fp32"},
    }


def learned(folder: Path, recipe: dict[str, Any], *overrides: str) -> dict[str, Tensor]:
    folder.mkdir()
    (folder / "rows.jsonl").write_text((folder.parent / "rows.jsonl").read_text())
    run = run_recipe(recipe, folder, overrides=overrides)
    assert run.error is None, run.error
    return load_file(run.run_dir / "model" / "model.safetensors")


def test_accumulation_one_times_eight_is_eight_times_one(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """The loss of an update is a mean over its rows, whatever the micro-batches are."""
    weights = ["task.class_weights=balanced", "run.global_batch=8"]
    whole = learned(tmp_path / "whole", recipe, *weights, "run.micro_batch=8")
    pieces = learned(tmp_path / "pieces", recipe, *weights, "run.micro_batch=1")
    assert whole.keys() == pieces.keys() and "score.weight" in whole
    for name, weight in whole.items():
        torch.testing.assert_close(pieces[name], weight, rtol=0, atol=2e-5)


def test_a_new_head_is_drawn_by_the_seed(tmp_path: Path, recipe: dict[str, Any]) -> None:
    still = ["run.max_steps=1", "optimizer.lr=1e-9", "schedule=constant", "schedule.warmup=0"]
    first, same = (learned(tmp_path / name, recipe, *still, "run.seed=3") for name in ("first", "same"))
    other = learned(tmp_path / "other", recipe, *still, "run.seed=4")
    assert torch.equal(first["score.weight"], same["score.weight"])
    assert not torch.allclose(first["score.weight"], other["score.weight"], atol=1e-3)
    assert torch.allclose(first["model.norm.weight"], other["model.norm.weight"], atol=1e-6)


def test_a_run_learns_and_its_model_is_transformers_own(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path, overrides=["run.max_steps=30"])
    assert run.error is None, run.error
    summary = run.summary
    assert summary["label_tokens"] == summary["datasets"]["train"]["rows"]["seen_rows"]
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"]
    assert summary["eval"]["after"].keys() == {"accuracy", "macro-f1", "loss"}
    assert summary["tables"].keys() == {"per class", "true ↓ predicted →"}

    folder = str(run.run_dir / "model")
    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == {0: "a", 1: "b", 2: "c"} and config.problem_type == "single_label_classification"
    assert config.pad_token_id == AutoTokenizer.from_pretrained(folder).pad_token_id
    assert len(summary["samples"]) == 3
    ask = pipeline("text-classification", model=folder, device="cpu")
    answers = ask([one["question"] for one in summary["samples"]])
    for one, answer in zip(summary["samples"], answers, strict=True):
        assert one["after"] == f"{answer['label']} {answer['score']:.1%}"


def test_rows_of_several_classes(tmp_path: Path, recipe: dict[str, Any]) -> None:
    lines = [
        {"text": f"{'x' * (n % 2)} {'y' * (n % 3 > 0)} {n}", "labels": ["x"] * (n % 2) + ["y"] * (n % 3 > 0)}
        for n in range(24)
    ]
    write_rows(tmp_path / "rows.jsonl", lines)
    recipe = {**recipe, "task": {"name": "classification", "multi_label": True, "class_weights": "balanced"}}
    run = run_recipe(recipe, tmp_path)
    assert run.error is None, run.error
    assert run.summary["tables"].keys() == {"per class"}
    config = AutoConfig.from_pretrained(str(run.run_dir / "model"))
    assert config.id2label == {0: "x", 1: "y"} and config.problem_type == "multi_label_classification"


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path: Path, recipe: dict[str, Any]) -> None:
    constant = ["schedule=constant", "schedule.warmup=1", "task.class_weights=balanced", "evaluation.every=2"]
    whole = learned(tmp_path / "whole", recipe, *constant, "run.max_steps=6")
    learned(tmp_path / "halves", recipe, *constant, "run.max_steps=3")
    halves = run_recipe(recipe, tmp_path / "halves", overrides=[*constant, "run.max_steps=6"], resume=True)
    assert halves.error is None, halves.error
    again = load_file(halves.run_dir / "model" / "model.safetensors")
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    summary = json.loads((tmp_path / "whole" / "runs" / "recipe" / "summary.json").read_text())
    assert halves.summary["tables"] == summary["tables"] and halves.summary["eval"] == summary["eval"]


def test_an_encoder_and_two_texts(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """BERT is told which of two texts a token is of, in training as in transformers' own pipeline."""
    pairs = [{"a": f"a b {n}", "b": "a" if n % 2 else "c", "label": n % 2} for n in range(24)]
    write_rows(tmp_path / "rows.jsonl", pairs)
    of_two = {"name": "labelled", "text": "a", "second": "b"}
    recipe["model"]["source"] = str(save_encoder(tmp_path / "encoder"))
    recipe["data"] = {"train": [{"path": "rows.jsonl", "format": of_two}], "eval_share": 0.3}
    run = run_recipe(recipe, tmp_path)
    assert run.error is None, run.error
    ask = pipeline("text-classification", model=str(run.run_dir / "model"), device="cpu")
    by_text = {pair["a"]: pair for pair in pairs}
    for sample in run.summary["samples"]:
        pair = by_text[sample["question"]]
        answer = ask({"text": pair["a"], "text_pair": pair["b"]})
        assert sample["after"] == f"{answer['label']} {answer['score']:.1%}"


def test_a_head_alone_learns_on_an_encoder(tmp_path: Path, recipe: dict[str, Any]) -> None:
    lines = [{"text": f"{'xyz'[n % 3]} {n}", "label": NAMES[n % 3]} for n in range(24)]
    write_rows(tmp_path / "rows.jsonl", lines)
    before = load_file(save_encoder(tmp_path / "encoder") / "model.safetensors")
    recipe["model"]["source"] = str(tmp_path / "encoder")
    run = run_recipe({**recipe, "freezing": "head-only"}, tmp_path)
    assert run.error is None, run.error
    after = load_file(run.run_dir / "model" / "model.safetensors")
    assert {name for name in after if not name.startswith("bert.")} == {"classifier.weight", "classifier.bias"}
    assert run.summary["trained_parameters"] == 3 * 16 + 3
    assert all(torch.equal(after[f"bert.{name}"], weight) for name, weight in before.items())
    assert after["classifier.bias"].abs().min() > 0


@pytest.mark.parametrize(("kind", "longest"), [("roberta", 12), ("bert", 14)])
def test_rows_beyond_the_models_positions_are_refused(
    tmp_path: Path, recipe: dict[str, Any], kind: str, longest: int
) -> None:
    """RoBERTa loses two of its positions, to the padding and what stands before it."""
    folder = tmp_path / "encoder"
    torch.manual_seed(0)
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, **{**SIZES, "max_position_embeddings": 14}, **special)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    lines = [{"text": "a " * 30 + str(n), "label": NAMES[n % 2]} for n in range(8)]
    write_rows(tmp_path / "rows.jsonl", lines)
    recipe = {**recipe, "data": {"train": [{"path": "rows.jsonl"}]}, "run": {"max_steps": 1, "micro_batch": 2}}
    recipe |= {"model": {"source": str(folder)}, "schedule": {"name": "constant", "warmup": 0.0}}
    refused = run_recipe(recipe, tmp_path, overrides=[f"batching.max_length={longest + 1}"])
    assert f"positions for {longest}" in str(refused.error)
    assert run_recipe(recipe, tmp_path, overrides=[f"batching.max_length={longest}"]).error is None
