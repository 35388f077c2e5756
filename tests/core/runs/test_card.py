"""The model card: what a hub reads of it, that its snippet runs, and what it must not say."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fttool.runs.card import task_of
from fttool.testing import RunResult, run_recipe

from ...encoder import save_encoder


def card_of(run: RunResult) -> tuple[dict[str, Any], str]:
    """Its metadata and its text."""
    assert run.error is None
    _, head, text = (run.run_dir / "model" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def tables(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    part = text.partition(f"{heading}\n")[2].partition("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return lines[2:]


def run_the_snippet(text: str, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """What the card's own Python prints, in the model's folder."""
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(model)
    capsys.readouterr()
    exec(compile(code, "card", "exec"), {})
    return capsys.readouterr().out


@pytest.fixture
def chat(fttool_recipe: dict[str, Any], fttool_rows: Path) -> dict[str, Any]:
    recipe = {**fttool_recipe, "evaluation": {"metrics": ["loss", "perplexity"], "samples": 0}}
    recipe["data"]["eval_share"] = 0.3
    lines = fttool_rows.read_text().splitlines()
    kept = fttool_rows.with_name("kept.jsonl")
    kept.write_text("\n".join(lines[:3]) + "\n")
    recipe["data"]["retention"] = [{"path": str(kept), "format": "messages"}]
    return recipe


def test_a_chat_models_card(
    chat: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(shutil.copytree(chat["model"]["source"], tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# base\n")
    chat["model"]["source"] = str(base)
    run = run_recipe(chat, tmp_path)
    head, text = card_of(run)
    assert head == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "metrics": ["loss", "perplexity"],
        "tags": ["fttool", "sft"],
    }
    lock, summary = json.loads((run.run_dir / "lock.json").read_text()), run.summary
    shown = {(row[0], row[1]): row[2:] for row in tables(text, "## Rows")}
    for source in lock["files"]:
        key = (f"`{Path(source['source']).name}`", source["table"].split(".")[1])
        assert shown[key] == [f"{source['rows']:,}", f"`{source['sha256'][:12]}`"]
    evaluated = summary["eval"]
    assert tables(text, "## Evaluation") == [
        [name, f"{evaluated['before'][name]:.4f}", f"{value:.4f}"] for name, value in evaluated["after"].items()
    ]
    retained = summary["retention"]
    assert tables(text, "## Forgetting") == [
        ["kept", name, f"{retained['before']['kept'][name]:.4f}", f"{value:.4f}"]
        for name, value in retained["after"]["kept"].items()
    ]
    assert str(tmp_path) not in text and "licence: apache-2.0" in text and "The chat template in this folder" in text
    assert "4 updates of 2 sequences" in text and "schedule: `cosine`" in text
    rows = Path(chat["data"]["train"][0]["path"]).read_text()
    assert not [turn for line in rows.splitlines() for turn in json.loads(line)["messages"] if turn["content"] in text]
    assert run_the_snippet(text, run.run_dir / "model", monkeypatch, capsys)


def test_a_classifiers_card_has_a_line_for_each_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "a b c,good\nx y z,bad\nd e f,a|b\n" * 8)
    recipe = {
        "recipe": 1,
        "run": {"max_steps": 2, "micro_batch": 4},
        "task": "classification",
        "model": {"source": str(save_encoder(tmp_path / "encoder"))},
        "data": {"train": [{"path": str(rows)}], "eval": [{"path": str(rows), "name": "again", "limit": 3}]},
        "evaluation": {"metrics": ["macro-f1", "accuracy"]},
        "precision": {"name": "fp32"},
    }
    rows.with_name("more.csv").write_text("text,label\n" + "g h,good\nu v,bad\nw x,a|b\n")
    recipe["data"]["eval"][0]["path"] = str(rows.with_name("more.csv"))
    run = run_recipe(recipe, tmp_path)
    head, text = card_of(run)
    assert head["pipeline_tag"] == "text-classification" and head["tags"] == ["fttool", "classification"]
    per_class = run.summary["tables"]["per class"]
    assert [row[0].replace("\\", "") for row in tables(text.replace("\\|", "\\"), "### per class")] == [
        str(row[0]).replace("|", "") for row in per_class[1:]
    ]
    assert "Its classes: " in text and "`good`" in text
    said = run_the_snippet(text, run.run_dir / "model", monkeypatch, capsys)
    assert all(name in said for name in ("good", "bad"))


def test_a_card_may_be_edited_and_the_model_is_still_whole(chat: dict[str, Any], tmp_path: Path) -> None:
    from fttool.cli import main

    run = run_recipe(chat, tmp_path)
    (run.run_dir / "model" / "README.md").write_text("mine")
    assert main(["verify", str(run.run_dir)]) == 0


def test_variables_that_all_rows_had_stand_in_the_snippet(
    chat: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in (chat["data"]["train"][0], chat["data"]["retention"][0]):
        path = Path(table["path"])
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        table["path"] = str(path.with_stem(f"{path.stem}-thinking"))
        lines = [json.dumps({**row, "chat_template_kwargs": {"enable_thinking": False}}) for row in rows]
        Path(table["path"]).write_text("\n".join(lines) + "\n")
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        "{% if enable_thinking %}{{ 't' }}{% endif %}"
    )
    chat["model"]["chat_template"] = str(template)
    _, text = card_of(run := run_recipe(chat, tmp_path))
    assert '"enable_thinking": False' in text and "that of the recipe (`template.jinja`)" in text
    assert os.sep not in re.findall(r"that of the recipe \(`(.*?)`\)", text)[0]
    assert run_the_snippet(text, run.run_dir / "model", monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("LlamaForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("BertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("Strange", None),
    ],
)
def test_the_hubs_names_of_tasks(name: str, task: str | None) -> None:
    assert task_of(name) == task
