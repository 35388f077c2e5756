"""The table of what trains, when and at which rate: right, aligned, and on one screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tomli_w import dumps

from fttool.cli import main
from fttool.show.dry_run import MOST, named
from fttool.testing import tiny_model, tiny_tokenizer

LAYERS = 30


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    tiny_model(num_hidden_layers=LAYERS).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    """Twelve updates an epoch, thirty in all."""
    return {**fttool_recipe, "run": {"max_steps": 30, "micro_batch": 2}, "optimizer": {"name": "adamw", "lr": 1e-3}}


def shown(recipe: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the table, its head included."""
    (folder / "dry.toml").write_text(dumps(recipe))
    assert main(["run", str(folder / "dry.toml"), "--dry-run", "--set", f"run.output={folder / 'none'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("# parameters") + 2
    return lines[begin : lines.index("", begin)]


def groups(recipe: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The same as data."""
    (folder / "dry.toml").write_text(dumps(recipe))
    words = ["run", str(folder / "dry.toml"), "--dry-run", "--json", "--set", f"run.output={folder / 'none'}"]
    assert main(words) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["parameters"]["groups"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_every_group_says_when_it_trains(
    tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe["freezing"] = {"name": "gradual", "every": 15}
    recipe["layer_rates"] = {"name": "discriminative", "decay": 0.5}
    head, *rows, frozen = shown(recipe, tmp_path, capsys)
    assert cells(head) == ["parameters", "count", "share", "peak lr", "decay", "pull", "trains in"]
    assert [cells(row) for row in rows] == [
        ["model.embed_tokens.weight", "2,048", "22.0%", "0.00025", "0", "0", "none: the run is too short"],
        ["model.layers.0.* (9)", "2,592", "27.9%", "0.0005", "0", "0", "none: the run is too short"],
        ["model.layers.1.* (9)", "2,592", "27.9%", "0.001", "0", "0", "from update 15 (epoch 2)"],
        ["model.norm.weight, lm_head.weight", "2,064", "22.2%", "0.001", "0", "0", "all updates"],
    ]
    assert cells(frozen) == ["frozen", "0", "0.0%"]
    assert len({len(row) for row in (head, *rows)}) == 1  # aligned to the right


def test_as_data_it_is_exact(tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Stretches end with the run: 2^63 − 1 is no number in JSON."""
    recipe["freezing"] = {"name": "gradual", "every": 15}
    turns = {group["names"]: group["trains_in"] for group in groups(recipe, tmp_path, capsys)}
    assert turns == {
        "model.embed_tokens.weight": [],
        "model.layers.0.* (9)": [],
        "model.layers.1.* (9)": [[15, 30]],
        "model.norm.weight, lm_head.weight": [[0, 30]],
    }
    recipe["freezing"] = {"name": "lisa", "n": 1, "every": 7}
    found = groups(recipe, tmp_path, capsys)
    updates = [update for group in found[1:] for begin, end in group["trains_in"] for update in range(begin, end)]
    assert sorted(updates) == list(range(30))


def test_many_groups_stay_on_one_screen(
    tmp_path: Path, recipe: dict[str, Any], deep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The middle is one line, and the columns still add up."""
    recipe["model"] = {"source": str(deep)}
    recipe["optimizer"]["weight_decay"] = 0.1  # matrices and vectors apart: two groups a layer
    recipe["freezing"] = {"name": "lisa", "n": 2, "every": 2}
    recipe["layer_rates"] = {"name": "discriminative", "decay": 0.9}
    recipe["regularizers"] = [{"name": "l2-init", "strength": 0.25, "parameters": ["*_proj*"]}]
    head, *rows, frozen = shown(recipe, tmp_path, capsys)
    assert len(rows) == MOST
    assert len({len(row) for row in (head, *rows)}) == 1 and len(head) <= 150
    found = groups(recipe, tmp_path, capsys)
    counts = [int(cells(row)[1].replace(",", "")) for row in (*rows, frozen)]
    assert sum(counts) == tiny_model(num_hidden_layers=LAYERS).num_parameters()
    (folded,) = [cells(row) for row in rows if row.startswith("…")]
    middle = found[MOST // 2 : len(found) - (MOST // 2 - 1)]
    assert folded[0] == f"… {len(middle)} more groups" and len(middle) == len(found) - MOST + 1
    rates = [group["lr"] for group in middle]
    assert folded[3] == f"{min(rates):.3g} – {max(rates):.3g}"
    assert folded[4:6] == ["0 – 0.1", "0 … 0.5"]
    turns = [sum(end - begin for begin, end in group["trains_in"]) for group in middle]
    assert folded[6] == f"{min(turns)} – {max(turns)} of 30"


def test_a_small_pull_is_shown(tmp_path: Path, recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    recipe["regularizers"] = [{"name": "l2-init", "strength": 0.001}]
    [_, row, _] = shown(recipe, tmp_path, capsys)
    assert cells(row)[5:] == ["0.002", "all updates"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.b.weight"], "a.b.weight"),
        (["a.norm.weight", "head.weight"], "a.norm.weight, head.weight"),
        ([f"a.layers.3.{one}.weight" for one in "qkvo"], "a.layers.3.* (4)"),
        ([f"a.layers.{one}.q.bias" for one in range(4)], "a.layers.*.bias (4)"),
        ([*(f"a.layers.3.{one}.weight" for one in "qkvo"), "head.weight"], "a.layers.3.q.weight and 4 more"),
        (["a." + 30 * "long", "a." + 30 * "wide"], "a.* (2)"),
    ],
)
def test_parameters_are_named_in_few_words(names: list[str], expected: str) -> None:
    assert named(names) == expected
