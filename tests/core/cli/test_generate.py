"""What `fttool generate` asks with: the tokens that reach the model, beside those of the rows that it has learned."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fttool.cli import main
from fttool.rows.chat import CHATML
from fttool.testing import run_recipe
from fttool.training.answering import Answering

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    + CHATML
    + "{% if add_generation_prompt and not enable_thinking %}{{ '<think>-</think>' }}{% endif %}"
    "{% if add_generation_prompt and style %}{{ style }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Outside."}}]


@pytest.fixture
def run(fttool_recipe: dict[str, Any], tmp_path: Path) -> Path:
    """A run whose rows all say `enable_thinking`, and one of them more."""
    (tmp_path / "variables.jinja").write_text(TEMPLATE)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    rows = [
        {"messages": turns, "chat_template_kwargs": {"enable_thinking": True, **({"mood": "odd"} if odd else {})}}
        for odd in (True, False, False, False)
    ]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {**fttool_recipe, "model": {**fttool_recipe["model"], "chat_template": "variables.jinja"}}
    recipe["data"] = {"train": [{"path": "said.jsonl"}]}
    result = run_recipe({key: value for key, value in recipe.items() if key != "evaluation"}, tmp_path)
    assert result.exit_code == 0, result.error
    assert result.summary["template_variables"] == {"enable_thinking": True}
    return result.run_dir


@pytest.fixture
def asked(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that reach the model, as text."""
    tokenizer: Any = AutoTokenizer.from_pretrained(run / "model")
    prompts: list[str] = []

    def ask(self: Answering, some: Any, *_: Any) -> list[str]:
        prompts.extend(tokenizer.decode(ids) for ids in some)
        return ["an answer"] * len(some)

    monkeypatch.setattr(Answering, "ask", ask)
    return prompts


def chatml(question: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_it_asks_as_the_rows_did(
    run: Path, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(run), "Hi"]) == 0
    assert asked.pop() == chatml("Hi")
    assert "as in all rows of the run: enable_thinking=true" in capsys.readouterr().err
    assert main(["generate", str(run), "Hi", "--variable", "enable_thinking=false", "--variable", "style=<unk>"]) == 0
    assert asked.pop() == chatml("Hi") + "<think>-</think><unk>"
    assert capsys.readouterr().err == ""
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    assert main(["generate", str(run), "Hi", "--tools", str(tmp_path / "tools.json")]) == 0
    assert asked.pop() == json.dumps(TOOLS) + "\n" + chatml("Hi")
    assert main(["generate", str(run / "model"), "Hi"]) == 0  # a model's folder knows nothing of rows
    assert asked.pop() == chatml("Hi") + "<think>-</think>"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--variable", "enable_thinking"], 2, "is not NAME=VALUE"),
        (["--tools", "none.json"], 2, "cannot read the tools"),
        (["--tools", "object.json"], 2, "is not a list of tools"),
    ],
)
def test_it_refuses_what_it_cannot_ask_with(
    words: list[str],
    code: int,
    what: str,
    fttool_tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "object.json").write_text("{}")
    assert main(["generate", str(fttool_tiny_model), "Hi", *words]) == code
    assert what in capsys.readouterr().err


def test_tools_that_the_template_cannot_write(
    fttool_tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    assert main(["generate", str(fttool_tiny_model), "Hi", "--tools", str(tmp_path / "tools.json")]) == 5
    assert "the chat template cannot write tools" in capsys.readouterr().err


# -- any source ----------------------------------------------------------------------------------------------------


def test_a_model_source_is_asked_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(str(files("fttool_plugins.model"))) / "tiny_chat"
    said: list[str] = []
    for model in (str(folder), "builtin:tiny-chat"):
        assert main(["generate", model, "What does math.sqrt do?", "--max-tokens", "12"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].strip()


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("bultin:tiny-chat", 2, "did you mean 'builtin'?"),
        ("builtin:tiny-cat", 2, "is not a model source"),
        ("package:no_such_package", 5, "no installed package is named 'no_such_package'"),
        ("runs/qickstart", 2, "did you mean 'runs/quickstart'?"),
        ("owner/name", 2, "no model found in 'owner/name'"),
    ],
)
def test_a_source_that_is_not_there_is_said(
    model: str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    assert main(["generate", model, "?"]) == code
    assert words in capsys.readouterr().err
