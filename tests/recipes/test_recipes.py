"""The recipes that come with fttool do what they say, in a few updates."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from fttool.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_quickstart_runs_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(RECIPES / "quickstart.toml"), "--set", f"run.output={tmp_path}", "--set", "run.max_steps=12"]
    assert main(["run", *words]) == 0
    shown = capsys.readouterr().out
    summary = json.loads((tmp_path / "quickstart" / "summary.json").read_text())
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"] < 5
    assert len(summary["samples"]) == 3
    for part in ("→", "tokens/s", "before", "after", str(tmp_path / "quickstart" / "model"), "fttool generate"):
        assert part in shown
    assert main(["generate", str(tmp_path / "quickstart"), "What does math.sqrt do?", "--max-tokens", "20"]) == 0
    assert capsys.readouterr().out.strip()
    readme = (RECIPES.parent / "README.md").read_text()
    assert _untrained(shown) == _untrained(readme)
    assert _before(shown) == pytest.approx(_before(readme), rel=5e-4)  # a machine may compute in bf16 or not


def _before(screen: str) -> dict[str, float]:
    """The metrics before the first update that a closing screen shows."""
    return {name: float(value) for name, value in re.findall(r"^ {2}(\S+) +([\d.]+) →", screen, re.MULTILINE)}


def _untrained(screen: str) -> list[str]:
    """What else a closing screen says that no update has changed: rows, questions, what to do next."""
    rows = re.findall(
        r"^ {2}([\d,]+ rows), [\d,]+ tokens seen, [\d,]+ labels learned, [\d,]+ tokens/s$", screen, re.MULTILINE
    )
    questions = re.findall(r"^ {2}> (.+)$", screen, re.MULTILINE)
    columns = re.findall(r"^ {2}before +│ after$", screen, re.MULTILINE)
    ways = re.findall(r"^ {2}(model|try) ", screen, re.MULTILINE)
    assert rows and questions and columns and ways
    return [*rows, *questions, str(len(columns)), *ways]


def test_rows_from_elsewhere_are_read_to_the_last_column(capsys: pytest.CaptureFixture[str]) -> None:
    """Every word of the two files stands in the conversations, but for the turn that is left out and the ids."""
    from fttool.recipe.reading import load
    from fttool.rows.data import prepare
    from fttool.testing import tiny_tokenizer

    rows = prepare(load(RECIPES / "elsewhere.toml"), tokenizer := tiny_tokenizer())
    assert (rows.train_sizes, rows.dropped, list(rows.gone)) == ([10, 8], {}, [])
    assert rows.notices == ["shared-chats: leading turns of the assistant left out: 1"]
    text = "\n".join(str(tokenizer.decode(row.input_ids)) for row in rows.train)
    for name in ("instructions", "shared-chats"):
        words = re.findall(
            r"[\w']+", re.sub(r'"(id|weight)": \S+', "", (RECIPES / "data" / f"{name}.jsonl").read_text())
        )
        keys = {"instruction", "input", "output", "history", "system", "conversations", "from", "value"}
        names = {"human", "gpt", "bing", "chatgpt", "narrator", "how", "can", "I", "help", "Hello"}
        assert [word for word in words if word not in text and word not in keys | names] == []
    learned = tokenizer.decode([label for row in rows.train for label in row.labels if label != -100])
    assert "ice is cold" in learned and "Yes, it is." not in learned and "how can I help" not in text
    assert not capsys.readouterr().out


def test_each_filter_of_clean_finds_the_row_that_was_made_for_it() -> None:
    from fttool.recipe.reading import load
    from fttool.rows.data import prepare
    from fttool.testing import tiny_tokenizer

    rows = prepare(load(RECIPES / "clean.toml"), tokenizer := tiny_tokenizer())
    assert rows.dropped == {
        "fewer than 2 characters": 1,
        "begins with a refusal": 1,
        "says one thing over and over": 1,
        "more than 5% markup": 1,
        "its answer does not go with its prompt": 1,
        "same row as an earlier row": 1,
        "almost the same row as an earlier row": 1,
    }
    assert rows.changed == {"has mojibake": 1, "has an e-mail address": 1} and len(rows.train) == 27
    text = "".join(str(tokenizer.decode(row.input_ids)) for row in rows.train)
    assert "[e-mail]" in text and "@example.com" not in text and "Â" not in text


@pytest.mark.full
def test_remember_measures_what_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(RECIPES / "remember.toml"), "--set", f"run.output={tmp_path}", "--set", "run.max_steps=12"]
    assert main(["run", *words, "--set", "evaluation.samples=0", "--set", "evaluation.every=12"]) == 0
    summary = json.loads((tmp_path / "remember" / "summary.json").read_text())
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"]
    before = summary["retention"]["before"]
    assert before["heldback-chat"]["loss"] == pytest.approx(1.7678, abs=1e-3)
    assert before["heldback-docs"]["loss"] == pytest.approx(2.6688, abs=1e-3)
    assert "lost on the retention rows 'heldback-chat'" in capsys.readouterr().out
    met = summary["datasets"]
    replayed = sum(one["seen_tokens"] for one in met["general"].values())
    longest = 256
    assert abs(replayed - 0.25 * summary["train_tokens"]) <= longest
    assert main(["compare", str(tmp_path / "remember")]) == 0
    assert "heldback-docs loss" in capsys.readouterr().out


@pytest.mark.full
def test_gradual_unfreezes_every_layer_in_its_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(RECIPES / "gradual.toml"), "--set", f"run.output={tmp_path}", "--set", "run.max_steps=20"]
    assert main(["run", *words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["parameters"]
    assert found["frozen"] == 0
    assert [group["trains_in"] for group in found["groups"]] == [[[first, 20]] for first in (15, 12, 9, 6, 3, 0)]
    assert [group["lr"] for group in found["groups"]] == pytest.approx(
        [0.8**power / 1000 for power in (4, 3, 2, 1, 0, 0)]
    )
    assert main(["run", *words, "--set", "evaluation.samples=0"]) == 0
    summary = json.loads((tmp_path / "gradual" / "summary.json").read_text())
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"]
    assert summary["trained_parameters"] == summary["parameters"]


@pytest.mark.full
def test_lora_trains_a_twentieth_and_is_asked_like_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run.max_steps=20", "evaluation.samples=0", "checkpoints.every=20", f"run.output={tmp_path}"]
    assert main(["run", str(RECIPES / "lora.toml"), *[part for word in words for part in ("--set", word)]]) == 0
    run_dir = tmp_path / "lora"
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["eval"]["after"]["loss"] < summary["eval"]["before"]["loss"]
    assert 0.04 < summary["trained_parameters"] / summary["parameters"] < 0.06
    assert (run_dir / "checkpoints" / "checkpoint-20" / "trained.safetensors").stat().st_size < 400_000
    saved = {path.name for path in (run_dir / "adapter").iterdir()}
    assert saved >= {"adapter_config.json", "adapter_model.safetensors"}
    capsys.readouterr()
    assert main(["generate", str(run_dir), "What does math.sqrt do?", "--max-tokens", "20"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.dist
@pytest.mark.full
def test_two_processes_have_the_numbers_of_one(tmp_path: Path) -> None:
    losses: dict[str, float] = {}
    few = ["run.max_steps=6", "evaluation.samples=0", "data.train.0.limit=60", f"run.output={tmp_path}"]
    for name, sharding in {"two": [], "one": ['sharding="none"']}.items():
        words = [part for word in (*few, *sharding, f"run.name={name}") for part in ("--set", word)]
        command = ["run", "-q", str(RECIPES / "two-processes.toml"), *words]
        if name == "two":
            subprocess.run([sys.executable, "-m", "fttool", *command], check=True, timeout=240)
        else:
            assert main(command) == 0
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        losses[name] = summary["eval"]["after"]["loss"]
        assert len(summary["sharding"]["ranks"]) == (2 if name == "two" else 1)
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-5)


@pytest.mark.full
def test_gentle_forgets_less_than_rough(tmp_path: Path) -> None:
    """In a few updates, on some of the rows."""
    lost: dict[str, float] = {}
    few = ["run.max_steps=60", "schedule.warmup=2", "evaluation.samples=0", "data.train.0.limit=300"]
    words = [str(RECIPES / "gentle.toml"), *(part for word in few for part in ("--set", word))]
    for name, changes in {"gentle": ["regularizers.0.examples=40"], "rough": ["regularizers=[]"]}.items():
        changes = [*changes, f"run.output={tmp_path}", f"run.name={name}"]
        assert main(["run", "-q", *words, *(part for word in changes for part in ("--set", word))]) == 0
        delta = json.loads((tmp_path / name / "summary.json").read_text())["retention"]["delta"]
        lost[name] = sum(values["loss"] for values in delta.values())
    assert lost["gentle"] < 0.6 * lost["rough"]
    assert (tmp_path / "gentle" / "importance.safetensors").stat().st_size > 4 * 1_700_000


def test_the_built_in_model_is_small_and_knows_something() -> None:
    from importlib.resources import files

    folder = Path(str(files("fttool_plugins.model"))) / "tiny_chat"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]


def test_the_classic_says_what_a_good_full_fine_tune_is() -> None:
    recipe = tomli.loads((RECIPES / "llama-3.1-8b-sft.toml").read_text())
    assert recipe["optimizer"] == {"name": "adamw", "lr": 2e-5, "weight_decay": 0.01, "max_grad_norm": 1.0}
    assert recipe["schedule"] == {"name": "cosine", "warmup": 0.1}
    run = recipe["run"]
    assert (run["epochs"], run["micro_batch"], run["global_batch"], run["workers"]) == (3, 2, 16, 4)
    assert recipe["batching"]["max_length"] == 4096
    assert recipe["model"]["gradient_checkpointing"] and recipe["model"]["attention"] == "flash_attention_2"
    assert recipe["precision"]["name"] == "bf16"
    assert recipe["evaluation"]["every"] == recipe["checkpoints"]["every"] == 200
    assert recipe["evaluation"]["best"] == "loss"


def test_steady_holds_what_the_model_says_and_measures_what_it_writes(tmp_path: Path) -> None:
    few = [
        "run.max_steps=2",
        "schedule.name=constant",
        "evaluation.samples=0",
        "evaluation.generate.rows=2",
        "evaluation.generate.max_tokens=4",
    ]
    words = [word for one in [f"run.output={tmp_path}", "run.log_every=1", *few] for word in ("--set", one)]
    assert main(["run", str(RECIPES / "steady.toml"), *words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "steady" / "metrics.jsonl").read_text().splitlines()]
    first, second = (line["kl-init"] for line in lines if "loss" in line)
    assert first == 0 < second
    summary = json.loads((tmp_path / "steady" / "summary.json").read_text())
    assert "answer-f1" in summary["eval"]["after"] and summary["answering"]["answers"] in (4, 6)
