"""Numbers of rows: losses against a naive loop, correlations against SciPy's values, constants that have none; runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

from fttool.api import DataError, FormatContext, Measure, MetricContext, Predictions, TaskContext
from fttool.cli import main
from fttool.testing import run_recipe, tiny_batch, tiny_encoded, tiny_tokenizer
from fttool_plugins.format.labelled import Labelled
from fttool_plugins.metric.mse import MeanSquaredError
from fttool_plugins.metric.pearson import Pearson
from fttool_plugins.metric.spearman import Spearman
from fttool_plugins.task.classification import Classification
from fttool_plugins.task.heads import set_padding
from fttool_plugins.task.regression import CONFIGURATION, score, targets

from ...encoder import save_encoder
from ...rows import write_rows

SAID = [1.0, 2.0, 2.0, 5.5, -3.0, 0.25, 2.0]
TRUE = [0.5, 3.0, 1.0, 4.0, -1.0, -1.0, 2.5]


def seen(said: list[float], true: list[float]) -> Predictions:
    logits_NV, targets_N = torch.tensor(said).unsqueeze(1), torch.tensor(true)
    losses_N = (logits_NV[:, 0] - targets_N).square()
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N)


def of_parts(measure: Measure, said: list[float], true: list[float]) -> torch.Tensor:
    """The statistics of micro-batches of three rows, joined."""
    parts = [seen(said[at : at + 3], true[at : at + 3]) for at in range(0, len(said), 3)]
    return torch.cat([measure.statistics(part) for part in parts])


def test_correlations_are_scipys() -> None:
    # scipy.stats.pearsonr and spearmanr of these numbers, ties among both
    for metric, value in ((Pearson(), 0.8628796051676677), (Spearman(), 0.9536459298086264)):
        measure = metric.build(MetricContext())
        pairs = of_parts(measure, SAID, TRUE)
        assert measure.value(pairs) == pytest.approx(value, rel=1e-12)
        assert measure.remark(pairs) is None
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(1))
        assert measure.value(pairs[order]) == pytest.approx(value, rel=1e-12)


def test_correlations_of_large_numbers_that_hardly_differ() -> None:
    """Sums of squares would cancel: what differs is the millionth part."""
    true = [1e6 + place for place in range(5)]
    measure = Pearson().build(MetricContext())
    assert measure.value(of_parts(measure, [2e6 + 2 * place for place in range(5)], true)) == pytest.approx(
        1, rel=1e-12
    )


def test_the_mean_squared_error_is_a_mean_over_all_rows() -> None:
    measure = MeanSquaredError().build(MetricContext())
    parts = [measure.statistics(seen(SAID[at : at + 3], TRUE[at : at + 3])) for at in range(0, 7, 3)]
    wanted = sum((one - other) ** 2 for one, other in zip(SAID, TRUE, strict=True)) / 7
    assert measure.value(sum(parts, torch.zeros(2))) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize(
    ("said", "true", "why"),
    [
        ([2.5, 2.5, 2.5], [1.0, 2.0, 3.0], "no correlation: the model predicts 2.5 for every row"),
        ([2.5, 2.5000002, 2.5], [1.0, 2.0, 3.0], "no correlation: the model predicts 2.5 for every row"),
        ([1.0, 2.0, 3.0], [4.0, 4.0, 4.0], "no correlation: every row has the label 4"),
        ([1.0], [4.0], "no correlation: there is one row"),
        ([0.0, 0.0], [1.0, 2.0], "no correlation: the model predicts 0 for every row"),
    ],
)
def test_where_there_is_no_correlation_it_is_said(said: list[float], true: list[float], why: str) -> None:
    for metric in (Pearson(), Spearman()):
        measure = metric.build(MetricContext())
        pairs = of_parts(measure, said, true)
        assert math.isnan(measure.value(pairs)) and measure.remark(pairs) == why


# -- rows and the score ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number"), [(3, 3.0), (3.5, 3.5), (-1e-3, -0.001), ("4.5", 4.5), (" 2 ", 2.0), (0, 0.0), ("1e3", 1000.0)]
)
def test_numbers_are_read(value: Any, number: float) -> None:
    read = Labelled().build(FormatContext(origin="", level="number"))
    labels = read({"text": "a", "labels": value}, "1").labels
    assert labels is not None and targets([labels]).tolist() == [pytest.approx(number)]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("good", "'label' must be a number, as the task learns numbers; this is 'good'"),
        ("", "must be a number, as the task learns numbers; this is ''"),
        ("nan", "must be a finite number"),
        (float("inf"), "must be a finite number"),
        (True, "must be a number, this is bool"),
        ([1.0], "must be a number, this is list"),
        (10**400, "too large"),
    ],
)
def test_what_is_no_number_is_refused(value: Any, why: str) -> None:
    read = Labelled().build(FormatContext(origin="", level="number"))
    with pytest.raises(ValueError, match="must be a") as refused:
        read({"text": "a", "label": value}, "1")
    assert why in str(refused.value)


def test_a_fraction_is_still_no_class() -> None:
    read = Labelled().build(FormatContext(origin="", level="row"))
    with pytest.raises(ValueError, match="must name a class as text or a whole number, this is float"):
        read({"text": "a", "label": 0.5}, "1")


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_losses_are_transformers_own_and_padding_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    small = {"vocab_size": 128, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = AutoConfig.for_model(kind, num_attention_heads=2, **small, **CONFIGURATION)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    set_padding(model, tiny_tokenizer())
    rows, numbers = tiny_encoded(), torch.tensor([0.5, -2.0, 7.0])
    found = score(model, {**tiny_batch(rows), "targets": numbers})
    for index, row in enumerate(rows):
        alone = model(input_ids=torch.tensor([row.input_ids]), labels=numbers[index : index + 1])
        torch.testing.assert_close(found.losses_N[index], alone.loss, rtol=1e-5, atol=1e-5)
    assert found.logits_NV.shape == (3, 1)


def test_one_number_alone_teaches_nothing() -> None:
    with pytest.raises(DataError, match=r"all training rows have the number 2\.0"):
        Classification(kind="regression").build(TaskContext(label_counts={"2.0": 5}, rows=5))


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """A text's number is how many of its words are `x`."""
    save_encoder(tmp_path / "encoder")
    lines = [
        {"text": " ".join(["x"] * (n % 4) + ["abcd"[n % 3]] * (4 - n % 4) + [str(n % 24)]), "label": (n % 4) / 2}
        for n in range(48)
    ]
    write_rows(tmp_path / "rows.jsonl", lines)
    return {
        "recipe": 1,
        "task": {"name": "classification", "kind": "regression"},
        "run": {"max_steps": 30, "micro_batch": 8, "log_every": 1},
        "model": {"source": str(tmp_path / "encoder")},
        "data": {"train": [{"path": "rows.jsonl"}], "eval_share": 0.3},
        "optimizer": {"name": "adamw", "lr": 1e-2},
        "precision": {"name": "fp32"},
    }


def test_a_run_learns_and_predict_says_what_transformers_does(
    tmp_path: Path, recipe: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(recipe, tmp_path)
    assert run.error is None, run.error
    summary = run.summary
    before, after = summary["eval"]["before"], summary["eval"]["after"]
    assert list(after) == ["pearson", "spearman", "mse"]
    assert after["mse"] < before["mse"] and after["pearson"] > 0.8 and summary["metric_remarks"] == {}
    config = AutoConfig.from_pretrained(str(run.run_dir / "model"))
    assert (config.num_labels, config.problem_type, config.id2label) == (1, "regression", {0: "value"})
    ask = pipeline("text-classification", model=str(run.run_dir / "model"), device="cpu")
    sample = summary["samples"][0]
    assert sample["after"] == f"{ask(sample['question'])[0]['score']:.4f}" and float(sample["expected"]) in (
        0,
        0.5,
        1,
        1.5,
    )
    capfd.readouterr()
    assert main(["predict", str(run.run_dir), "--text", "x x a", "--text", "a", "--json"]) == 0
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [one["value"] for one in said] == pytest.approx([ask(t)[0]["score"] for t in ("x x a", "a")], abs=1e-5)
    assert main(["predict", str(run.run_dir), "--text", "x x a"]) == 0
    assert capfd.readouterr().out == f"{said[0]['value']:.4f}  x x a\n"


def test_a_constant_model_is_said_to_have_no_correlation(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """With a head of zeros; NaN stands in `metrics.jsonl` as text, and never as 0."""
    folder = tmp_path / "zeros"
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder", **CONFIGURATION)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(folder)
    from ...encoder import tokenizer

    tokenizer().save_pretrained(folder)
    still = ["run.max_steps=1", "schedule.warmup=0", "freezing={name='patterns',train=['bert.encoder.*']}"]
    run = run_recipe({**recipe, "model": {"source": str(folder)}}, tmp_path, overrides=still)
    assert run.error is None, run.error
    assert run.summary["eval"]["after"]["pearson"] == "nan"
    remark = "no correlation: the model predicts 0 for every row"
    assert run.summary["metric_remarks"] == {"pearson": remark, "spearman": remark}
    assert [line["eval_pearson"] for line in run.metrics if "eval_pearson" in line] == ["nan"] * 2


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ("task.multi_label=true", "task.multi_label is for classes", 3),
        ("task.labels=['a','b']", "task.labels is for classes", 3),
        ("task.class_weights=balanced", "task.class_weights is for classes", 3),
        ("evaluation.metrics=['accuracy']", "which learns a number for each row here", 3),
        ("task.kind=classes", "'label' must name a class as text or a whole number, this is float", 4),
        ("data.train.0.format=tagged", "format 'tagged' is for a task that learns a class for each word", 3),
    ],
)
def test_what_does_not_go_with_numbers_is_refused(
    tmp_path: Path, recipe: dict[str, Any], words: str, said: str, code: int
) -> None:
    refused = run_recipe(recipe, tmp_path, overrides=[words])
    assert said in str(refused.error) and refused.exit_code == code


def test_a_text_among_numbers_is_named_by_its_line(tmp_path: Path, recipe: dict[str, Any]) -> None:
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": "x", "label": "good"}\n')
    refused = run_recipe(recipe, tmp_path)
    assert f"{tmp_path}/rows.jsonl:49" in str(refused.error) and refused.exit_code == 4
