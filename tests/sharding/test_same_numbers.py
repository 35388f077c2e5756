"""A run in several processes has the numbers of a run in one: losses, evaluations, rows, tokens, the final model.

`FTTOOL_MATRIX=whole pytest tests/sharding/test_same_numbers.py` makes every cell under every sharding.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from fttool.plugins import Plugins
from fttool.recipe.reading import load

from ..encoder import save_encoder
from .matrix import (
    CELLS,
    DRAWN,
    IMPOSSIBLE,
    IN_16_BITS,
    LEFT_OUT,
    RESUMED,
    SAMPLE,
    SHARDINGS,
    WHOLE,
    Outcome,
    base,
    classifying,
    recipe_of,
    run_cells,
    run_recipes,
    table,
    tagging,
    under,
    write_rows,
    write_tags,
    write_texts,
)

pytestmark = [pytest.mark.dist, pytest.mark.full]


RESUMING = [one for one, table in SHARDINGS.items() if table["processes"] == 2] if WHOLE else ["fsdp", "zero-3"]


def cells_of(sharding: str) -> tuple[str, ...]:
    if SHARDINGS[sharding]["processes"] != 2:
        return SAMPLE
    left_out = () if WHOLE else LEFT_OUT.get(sharding, ())
    return tuple(cell for cell in (*CELLS, *IN_16_BITS) if cell not in left_out)


def settings(sharding: str, common: dict[str, Any]) -> dict[str, Any]:
    """Three processes take three rows each, and so a global batch of their own."""
    if sharding not in SHARDINGS or SHARDINGS[sharding]["processes"] != 3:
        return common
    three = {"micro_batch": 1, "global_batch": 6}
    return {task: {**recipe, "run": {**recipe["run"], **three}} for task, recipe in common.items()}


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory, fttool_tiny_model: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("rows")
    rows = [write_rows(folder / "rows.jsonl", 45), write_rows(folder / "general.jsonl", 12, first=100)]
    chats = base(fttool_tiny_model, *rows)
    texts = write_texts(folder / "texts.jsonl", 45)
    classes = classifying(chats, save_encoder(folder / "encoder"), texts)
    tags = tagging(classes, write_tags(folder / "tags.jsonl", 45))
    return {"sft": chats, "classification": classes, "token-classification": tags}


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory, common: dict[str, Any]) -> Callable[[str], Any]:
    """Sharding → cell → outcome, made when it is asked for; `none` is one process."""
    folder = tmp_path_factory.mktemp("sharding")
    made: dict[str, Any] = {}

    def of(sharding: str) -> dict[str, Outcome | str]:
        if sharding not in made:
            if sharding.startswith("none"):
                like = sharding.partition(" ")[2]
                cells = cells_of(like) if like else compared_with("none")
                made[sharding] = run_cells(folder / sharding, settings(like, common), cells, {"name": "none"})
            else:
                table = SHARDINGS[sharding]
                made[sharding] = run_cells(folder / sharding, settings(sharding, common), cells_of(sharding), table)
        return made[sharding]

    return of


def plainest(sharding: str, cell: str) -> str:
    """What a cell is compared with: one process, or where each draws for itself as many under `ddp`."""
    if cell in DRAWN:
        return "ddp"
    return f"none {sharding}" if SHARDINGS[sharding]["processes"] == 3 else "none"


def compared_with(plain: str) -> tuple[str, ...]:
    """The cells that are asked of it."""
    asked = {cell for one in SHARDINGS for cell in cells_of(one) if plainest(one, cell) == plain}
    return tuple(cell for cell in (*CELLS, *IN_16_BITS) if cell in asked)


def model_of(run: Outcome) -> dict[str, torch.Tensor]:
    return load_file(next((run.run_dir / "model").glob("*.safetensors")))


def compared(cells: Container[str]) -> list[tuple[str, str]]:
    pairs = [(one, cell) for one in SHARDINGS for cell in cells_of(one) if cell in cells]
    return [(one, cell) for one, cell in pairs if plainest(one, cell) != one]


@pytest.mark.parametrize(("sharding", "cell"), compared(CELLS))
def test_a_cell_has_the_same_numbers(outcomes: Any, sharding: str, cell: str) -> None:
    one, several = outcomes(plainest(sharding, cell))[cell], outcomes(sharding)[cell]
    if (sharding, cell) in IMPOSSIBLE:
        assert isinstance(several, str) and IMPOSSIBLE[sharding, cell] in several
        return
    assert isinstance(one, Outcome) and isinstance(several, Outcome), (one, several)
    assert len(one.metrics) == len(several.metrics) > 8 or cell == "early-stopping"
    for ours, theirs in zip(several.metrics, one.metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5), ours["step"]
    for key in ("steps", "epochs", "train_tokens", "label_tokens", "datasets", "best", "stopped_early"):
        expected = one.summary[key]
        assert several.summary[key] == (pytest.approx(expected, rel=1e-5) if key == "best" else expected)
    found = model_of(several)
    for name, expected in model_of(one).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sharding", "cell"), compared(IN_16_BITS))
def test_losses_in_bf16_are_near(outcomes: Any, sharding: str, cell: str) -> None:
    one, several = outcomes(plainest(sharding, cell))[cell], outcomes(sharding)[cell]
    assert isinstance(one, Outcome) and isinstance(several, Outcome), (one, several)
    for ours, theirs in zip(several.metrics, one.metrics, strict=True):
        for key in ("loss", "eval_loss", "penalty"):
            assert key not in theirs or ours[key] == pytest.approx(theirs[key], rel=2e-3)


@pytest.mark.parametrize("sharding", [name for name in SHARDINGS if "bf16" in cells_of(name)])
def test_bf16_has_float32_masters(outcomes: Any, sharding: str) -> None:
    """DeepSpeed's model is in 16 bits: 4 + 12/N, 2 + 14/N and 16/N bytes."""
    several = outcomes(sharding)["bf16"]
    count = sum(tensor.numel() for tensor in model_of(several).values())
    rank = several.summary["sharding"]["ranks"][1]
    anchors = 4 * count / (1 if sharding == "ddp" else 2)
    expected = {"ddp": 16, "fsdp": 16 / 2, "zero-1": 4 + 12 / 2, "zero-2": 2 + 14 / 2, "zero-3": 16 / 2}[sharding]
    held = sum(rank[f"{what}_bytes"] for what in ("parameter", "gradient", "optimizer"))
    assert held - anchors == pytest.approx(expected * count, rel=0.05)


def test_every_strategy_that_shapes_an_update_has_a_cell(common: dict[str, Any], tmp_path: Path) -> None:
    """With what the tasks fill in where a cell says nothing."""
    met: dict[str, set[str]] = defaultdict(set)
    for cell in CELLS:
        file = tmp_path / f"{cell}.toml"
        file.write_text(tomli_w.dumps(recipe_of(cell, common)))
        recipe = load(file).recipe
        shaping = (recipe.task, recipe.batching, recipe.freezing, recipe.layer_rates, recipe.optimizer, recipe.schedule)
        for one in (*shaping, *recipe.regularizers):
            met[one.family].add(one.id())
    assert met == {family: {one.id() for one in Plugins.of().family(family)} for family in met}


def test_the_page_shows_the_matrix() -> None:
    page = Path(__file__).parents[2] / "docs" / "scale.md"
    assert table() in page.read_text(encoding="utf-8")


RESUMPTIONS = [(one, cell) for one in RESUMING for cell in RESUMED if (one, cell) not in IMPOSSIBLE]


@pytest.fixture(scope="session")
def resumed(outcomes: Any, tmp_path_factory: pytest.TempPathFactory, common: dict[str, Any]) -> dict[str, Any]:
    """`SHARDING-CELL` → outcome of a run that has gone on from its third update, all in one pair of new processes."""
    folder = tmp_path_factory.mktemp("resumed")
    recipes: dict[str, dict[str, Any]] = {}
    for sharding, cell in RESUMPTIONS:
        name = f"{sharding}-{cell}"
        recipes[name] = under(SHARDINGS[sharding], recipe_of(cell, common))
        shutil.copytree(outcomes(sharding)[cell].run_dir, folder / "runs" / name)
        for checkpoint in (folder / "runs" / name / "checkpoints").iterdir():
            if checkpoint.name != "checkpoint-3":
                shutil.rmtree(checkpoint)
    return run_recipes(folder, recipes, resume=True)


@pytest.mark.parametrize(("sharding", "cell"), RESUMPTIONS)
def test_a_resumed_run_is_bitwise_equal(outcomes: Any, resumed: Any, sharding: str, cell: str) -> None:
    whole, again = outcomes(sharding)[cell], resumed[f"{sharding}-{cell}"]
    assert isinstance(again, Outcome), again
    assert again.metrics == whole.metrics
    found = model_of(again)
    assert all(torch.equal(tensor, found[name]) for name, tensor in model_of(whole).items())


@pytest.mark.parametrize("sharding", [name for name, table in SHARDINGS.items() if table["processes"] != 3])
def test_each_process_says_what_it_holds(outcomes: Any, sharding: str) -> None:
    """4 bytes a parameter, as much of gradients, 8 of Adam; ZeRO has float32 masters beside float32 weights."""
    count = sum(tensor.numel() for tensor in model_of(outcomes("none")["padded"]).values())
    table = SHARDINGS[sharding]
    n, engine = table["processes"], (table["name"], table.get("stage"))
    shares = {("ddp", None): (1, 1, 1), ("fsdp", None): (n, n, n), ("zero", 1): (1, 1, n), ("zero", 2): (1, n, n)}
    parameters, gradients, state = shares.get(engine, (n, n, n))
    numbers = 12 if engine[0] == "zero" else 8
    for rank in outcomes(sharding)["padded"].summary["sharding"]["ranks"]:
        assert rank["parameter_bytes"] == pytest.approx(4 * count / parameters, rel=0.05)
        assert rank["gradient_bytes"] == pytest.approx(4 * count / gradients, rel=0.05)
        assert rank["optimizer_bytes"] == pytest.approx(numbers * count / state, rel=0.05)
        assert rank["peak_memory_bytes"] > sum(rank[f"{what}_bytes"] for what in ("parameter", "gradient", "optimizer"))
