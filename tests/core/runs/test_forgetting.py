"""What a run forgets is measured: on rows it never learns from, with the weights that it had and those it saves."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from fttool.api import Regularization, Regularizer, RegularizerContext, hookimpl
from fttool.cli import main
from fttool.recipe.reading import load
from fttool.rows.data import prepare
from fttool.rows.tokens import TokenRows
from fttool.show.closing import gained_and_lost
from fttool.testing import plugins, run_recipe

from ...rows import write_talks
from ...runs import assert_same_weights


def write(path: Path, question: str, count: int) -> str:
    """Rows whose answers differ in length, so that a mean of means is not the mean."""
    return str(write_talks(path, count, question, f"{question} ", lengths=5))


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Six updates on new rows; two datasets that represent what the model knew."""
    fttool_recipe["run"] = {"max_steps": 6, "micro_batch": 4, "log_every": 1, "seed": 3}
    fttool_recipe["optimizer"] = {"name": "adamw", "lr": 1e-2}
    fttool_recipe["schedule"] = "constant"
    fttool_recipe["data"] = {
        "train": [{"path": write(tmp_path / "new.jsonl", "new", 20)}],
        "eval_share": 0.2,
        "retention": [
            {"path": write(tmp_path / "old.jsonl", "old", 7)},
            {"path": write(tmp_path / "third.jsonl", "odd", 5), "name": "odd.ones"},
        ],
    }
    fttool_recipe["evaluation"] = {"every": 2, "metrics": ["loss", "token-accuracy"], "samples": 0, "micro_batch": 3}
    return fttool_recipe


def measured(folder: Path, rows: TokenRows) -> dict[str, float]:
    """Loss and accuracy over all learned tokens, one row at a time, with nothing of fttool's evaluation."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    loss, right, count = 0.0, 0, 0
    for row in rows:
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1]
        labels_T = torch.tensor(row.labels[1:])
        loss += float(cross_entropy(logits_TV.double(), labels_T, reduction="sum"))
        right += int((logits_TV.argmax(-1) == labels_T).sum())
        count += int((labels_T != -100).sum())
    return {"loss": loss / count, "token-accuracy": right / count}


def retention_of(tmp_path: Path, folder: Path) -> dict[str, dict[str, float]]:
    rows = prepare(load(tmp_path / "recipe.toml"), AutoTokenizer.from_pretrained(folder)).retention
    return {name: measured(folder, some) for name, some in rows.items()}


def test_retention_is_measured_before_and_after(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    found = run.summary["retention"]
    before = retention_of(tmp_path, Path(recipe["model"]["source"]))
    after = retention_of(tmp_path, run.run_dir / "model")
    assert found["before"].keys() == found["after"].keys() == found["delta"].keys() == {"old", "odd.ones"}
    for dataset in before:
        assert found["before"][dataset] == pytest.approx(before[dataset], rel=1e-5)
        assert found["after"][dataset] == pytest.approx(after[dataset], rel=1e-5)
        for metric, value in found["delta"][dataset].items():
            assert value == found["after"][dataset][metric] - found["before"][dataset][metric]
    assert found["before"]["old"] != found["after"]["old"] != found["after"]["odd.ones"]
    assert run.summary["better_is"] == {"loss": "lower", "token-accuracy": "higher"}
    assert run.summary["datasets"]["retention"]["odd.ones"]["rows"] == 5


def test_every_evaluation_measures_it(tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = run_recipe(recipe, tmp_path)
    lines = [line for line in run.metrics if "retention_old_loss" in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert all("eval_loss" in line and "retention_odd.ones_token-accuracy" in line for line in lines)
    assert lines[0]["retention_old_loss"] == run.summary["retention"]["before"]["old"]["loss"]
    assert lines[-1]["retention_old_loss"] == run.summary["retention"]["after"]["old"]["loss"]


def test_it_changes_nothing_of_what_is_learned(tmp_path: Path, recipe: dict[str, Any]) -> None:
    with_it = run_recipe(recipe, tmp_path)
    recipe["data"]["general"] = [{"path": write(tmp_path / "books.jsonl", "book", 9)}]  # nor do these, unless replayed
    with_more = run_recipe(recipe, tmp_path, overrides=["run.name=more"])
    del recipe["data"]["retention"], recipe["data"]["general"]
    without = run_recipe(recipe, tmp_path, overrides=["run.name=without"])
    assert with_more.summary["datasets"]["general"]["books"]["seen_rows"] == 0
    assert without.summary["retention"] == {"before": {}, "after": {}, "delta": {}}
    for run in (with_it, with_more):
        assert run.summary["eval"] == without.summary["eval"]
        assert_same_weights(run, without)


def test_retention_alone_is_enough_to_measure(tmp_path: Path, recipe: dict[str, Any]) -> None:
    del recipe["data"]["eval_share"]
    run = run_recipe(recipe, tmp_path)
    assert run.error is None
    assert run.summary["eval"] == {"before": {}, "after": {}} and run.summary["best"] is None
    assert set(run.summary["retention"]["delta"]) == {"old", "odd.ones"}
    assert [line["step"] for line in run.metrics if "retention_old_loss" in line] == [0, 2, 4, 6]
    assert not any("eval_loss" in line for line in run.metrics)


def test_without_metrics_there_is_nothing_to_say(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["evaluation"] = {"metrics": []}
    run = run_recipe(recipe, tmp_path)
    assert run.error is None and run.summary["retention"]["delta"] == {"old": {}, "odd.ones": {}}
    assert gained_and_lost(run.summary) == []


def test_a_resumed_run_measures_the_same(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["checkpoints"] = {"every": 3, "keep": 9}
    whole = run_recipe(recipe, tmp_path)
    resumed_in = tmp_path / "resumed"
    shutil.copytree(whole.run_dir, resumed_in / "runs" / "recipe")
    folder = resumed_in / "runs" / "recipe"
    shutil.rmtree(folder / "checkpoints" / "checkpoint-6")
    shutil.rmtree(folder / "model")
    (folder / "summary.json").unlink()
    resumed = run_recipe(recipe, resumed_in, resume=True)
    assert resumed.error is None
    for key in ("retention", "datasets", "eval"):
        assert whole.summary[key] == resumed.summary[key]
    lines = [[{k: v for k, v in line.items() if "retention" in k} for line in one.metrics] for one in (whole, resumed)]
    assert lines[0] == lines[1]


class Halved(Regularizer):
    """Saves half of every weight."""

    name: Literal["acme.halved"] = "acme.halved"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the change of the final weights."""

        def halve(weights: Any) -> None:
            with torch.no_grad():
                for _, parameter in weights:
                    parameter.mul_(0.5)

        return Regularization(final_weights=halve)


def test_what_is_measured_last_is_what_is_saved(tmp_path: Path, recipe: dict[str, Any]) -> None:
    acme = SimpleNamespace(fttool_strategies=hookimpl(lambda: [Halved], specname="fttool_strategies"))
    for eval_share in (0.2, 0.0):
        recipe["regularizers"], recipe["data"]["eval_share"] = ["acme.halved"], eval_share
        run = run_recipe(recipe, tmp_path, plugins=plugins(acme=acme), overrides=[f"run.name=halved-{eval_share}"])
        assert run.error is None
        lines = [line for line in run.metrics if "retention_old_loss" in line]
        assert [line["step"] for line in lines] == [0, 2, 4, 6, 6] and lines[-1]["final"]
        (tmp_path / "recipe.toml").write_text((run.run_dir / "recipe.toml").read_text().replace('"acme.halved",', ""))
        after = retention_of(tmp_path, run.run_dir / "model")
        assert run.summary["retention"]["after"]["old"] == pytest.approx(after["old"], rel=1e-5)
        assert lines[-2]["retention_old_loss"] != lines[-1]["retention_old_loss"]


def test_the_best_weights_are_measured(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["optimizer"]["lr"] = 0.3  # too high: the best state is not the last
    recipe["evaluation"]["best"] = "loss"
    run = run_recipe(recipe, tmp_path)
    assert run.summary["best"]["step"] < 6
    after = retention_of(tmp_path, run.run_dir / "model")
    assert run.summary["retention"]["after"]["old"] == pytest.approx(after["old"], rel=1e-5)


def test_retention_never_chooses_the_best(tmp_path: Path, recipe: dict[str, Any]) -> None:
    recipe["evaluation"]["best"] = "retention_old_loss"
    refused = run_recipe(recipe, tmp_path)
    assert refused.exit_code == 3 and "evaluation.best 'retention_old_loss' is not a metric" in str(refused.error)


def test_the_closing_screen_and_the_card_say_what_was_lost(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from tomli_w import dumps

    file = tmp_path / "recipe.toml"
    file.write_text(dumps(recipe))
    assert main(["run", str(file), "--set", f"run.output={tmp_path / 'runs'}"]) == 0
    captured = capsys.readouterr()
    summary = json.loads((tmp_path / "runs" / "recipe" / "summary.json").read_text())
    before, after = summary["retention"]["before"]["old"]["loss"], summary["retention"]["after"]["old"]["loss"]
    assert "gained on the evaluation rows:" in captured.out
    verdict = "lost" if after > before else "nothing lost"
    assert f"{verdict} on the retention rows 'old'" in captured.out
    word = "worse" if after > before else "better"
    assert f"{before:.4f} → {after:.4f}  {word} by {abs(after - before):.4f}" in captured.out
    assert f"retention  old_loss {after:.4f}" in captured.err
    card = (tmp_path / "runs" / "recipe" / "model" / "README.md").read_text()
    assert "## Forgetting" in card and f"| old | loss | {before:.4f} | {after:.4f} |" in card


def test_gained_and_lost_in_words() -> None:
    def said(before: float, after: float, better: str) -> list[str]:
        numbers = {"before": {"m": before}, "after": {"m": after}}
        retention = {"before": {"docs": {"m": before}}, "after": {"docs": {"m": after}}}
        return gained_and_lost({"eval": numbers, "retention": retention, "better_is": {"m": better}})

    nowhere = ", which represent what it knew:"
    for before, after, better, words in [
        (2.0, 1.5, "lower", ("gained", "nothing lost", "better by 0.5000")),
        (2.0, 2.5, "lower", ("nothing gained", "lost", "worse by 0.5000")),
        (0.2, 0.7, "higher", ("gained", "nothing lost", "better by 0.5000")),
        (0.7, 0.2, "higher", ("nothing gained", "lost", "worse by 0.5000")),
        (1.0, 1.0, "lower", ("unchanged", "unchanged", "the same")),
    ]:
        first, gain, second, loss = said(before, after, better)
        assert first == f"  {words[0]} on the evaluation rows:"
        assert second == f"  {words[1]} on the retention rows 'docs'{nowhere}"
        assert gain == loss and gain.endswith(f"→ {after:.4f}  {words[2]}")
    assert said(1.0, math.nan, "lower")[1].endswith("→ nan")


def test_a_dry_run_counts_the_rows(tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    from tomli_w import dumps

    recipe["data"]["general"] = [{"path": write(tmp_path / "books.jsonl", "book", 9)}]
    (tmp_path / "recipe.toml").write_text(dumps(recipe))
    words = ["run", str(tmp_path / "recipe.toml"), "--dry-run"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert found["rows"]["general"] == {"books": 9} and found["rows"]["retention"] == {"old": 7, "odd.ones": 5}
    assert found["tokens"]["retention"]["old"] > 7 and [met["dataset"] for met in found["epoch"]] == ["new"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "retention       7 rows" in shown and "general         9 rows" in shown
