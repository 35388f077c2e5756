"""What regularizers are given in a run: general rows, the weights as loaded, names, places, and a bar."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fttool.api import (
    Freezing,
    FreezingContext,
    FreezingPlan,
    Pull,
    RecipeError,
    Regularization,
    Regularizer,
    RegularizerContext,
    TrainableUnit,
    hookimpl,
)
from fttool.testing import plugins, run_recipe, tiny_model
from fttool.testing.tiny import tiny_encoded
from fttool.training.regularizing import OneByOne
from fttool.watch.screen import Bar, Lines, Screen

from ...rows import write_rows

CONTEXTS: list[RegularizerContext] = []
CALLED: dict[str, Any] = {}


class Spy(Regularizer):
    """Keeps its context, and looks around when it is called."""

    name: Literal["acme.spy"] = "acme.spy"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield functions that look around."""
        CONTEXTS.append(ctx)
        CALLED["run_dir at build"] = ctx.run_dir.exists()

        def importance() -> dict[str, torch.Tensor]:
            CALLED["run_dir"] = ctx.run_dir.is_dir()
            return {}

        def look(weights: Any) -> None:
            torch.manual_seed(5)
            states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
            CALLED["start"], CALLED["end"] = ctx.start(), {n: p.detach().clone() for n, p in weights}
            after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
            CALLED["randomness kept"] = torch.equal(states[0], after[0]) and states[1:] == after[1:]

        pull = Pull(coefficient=lambda name: 1.0, importance=importance)
        return Regularization(pulls=[pull], final_weights=look)


class Adapter(Freezing):
    """Trains a parameter that it adds, and the final norm."""

    name: Literal["acme.adapter"] = "acme.adapter"

    def build(self, ctx: FreezingContext) -> FreezingPlan:
        """Yield one unit of both."""
        made: Any = ctx.model
        made.model.norm.register_parameter("shift", torch.nn.Parameter(torch.zeros(16)))
        made.model.norm.register_forward_hook(lambda module, inputs, output: output + module.shift)
        return FreezingPlan(units=[TrainableUnit(parameters=frozenset({"model.norm.shift", "model.norm.weight"}))])


@pytest.fixture
def run(fttool_recipe: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    CONTEXTS.clear()
    CALLED.clear()
    acme = plugins(
        acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: [Spy, Adapter], specname="fttool_strategies"))
    )
    fttool_recipe["regularizers"] = ["acme.spy"]
    return lambda **changes: run_recipe({**fttool_recipe, **changes}, tmp_path, plugins=acme)


def general(folder: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """`[data]` with two general datasets, of two rows and of one."""
    datasets = []
    for name, count in (("wiki", 2), ("old", 1)):
        turns = [
            [{"role": "user", "content": f"{name} {n}"}, {"role": "assistant", "content": "yes " * (n + 1)}]
            for n in range(count)
        ]
        path = folder / f"{name}.jsonl"
        write_rows(path, ({"messages": one} for one in turns))
        datasets.append({"path": str(path), "name": name})
    return {**recipe["data"], "general": datasets}


# -- general rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_general_rows_are_micro_batches_of_one(
    run: Callable[..., Any], fttool_recipe: dict[str, Any], tmp_path: Path, batching: str
) -> None:
    assert run(data=general(tmp_path, fttool_recipe), batching={"name": batching, "max_length": 128}).error is None
    [ctx] = CONTEXTS
    assert [len(ctx.general(name)) for name in (None, "wiki", "old")] == [3, 2, 1]
    longer, other = ctx.general("wiki")[1], ctx.general("wiki")[0]
    assert longer["input_ids"].shape[0] == 1 and longer["input_ids"].shape[1] > other["input_ids"].shape[1]
    assert torch.equal(ctx.general(None)[1]["input_ids"], longer["input_ids"])
    predictions = ctx.score(ctx.model, longer)
    assert len(predictions.losses_N) == int((longer["labels"] != -100).sum()) > 0
    if batching == "bucketed":
        assert longer["attention_mask"].all(), "nothing is padded"
    with pytest.raises(RecipeError, match="no general dataset is called 'wik'") as caught:
        ctx.general("wik")
    assert "did you mean 'wiki'?" in str(caught.value)


def test_without_general_rows_there_are_words(run: Callable[..., Any]) -> None:
    run()
    with pytest.raises(RecipeError, match=r"\[\[data.general\]\]"):
        CONTEXTS[0].general(None)


def test_rows_are_collated_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def collate(row: Any) -> dict[str, torch.Tensor]:
        asked.append(len(row.input_ids))
        return {"input_ids": torch.tensor([row.input_ids])}

    rows = OneByOne(tiny_encoded(), collate, tiny_model())
    assert len(rows) == 3 and asked == []
    assert rows[1]["input_ids"].shape == (1, 9) and asked == [9]
    assert [len(one["input_ids"][0]) for one in rows[1:]] == [9, 12]
    assert len(list(rows)) == 3


# -- names, places, start --------------------------------------------------------------------------------------------


def test_a_whole_model_trains_and_nothing_is_new(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run(run={"max_steps": 2, "seed": 9})
    [ctx] = CONTEXTS
    names = {name for name, _ in ctx.model.named_parameters()}
    assert ctx.trained == names and ctx.new == frozenset() and ctx.seed == 9 and ctx.total_steps == 2
    assert ctx.folder == tmp_path and ctx.run_dir == done.run_dir
    assert CALLED["run_dir at build"] is False and CALLED["run_dir"] is True


def test_what_freezing_adds_is_new_and_what_it_leaves_does_not_train(run: Callable[..., Any]) -> None:
    assert run(freezing="acme.adapter").error is None
    [ctx] = CONTEXTS
    assert ctx.trained == {"model.norm.shift", "model.norm.weight"} and ctx.new == {"model.norm.shift"}
    assert "model.norm.shift" in ctx.layers.final
    assert "model.norm.shift" not in CALLED["start"] and "model.norm.weight" in CALLED["start"]


def test_an_adapter_is_new_and_the_weights_that_it_wraps_are_not(run: Callable[..., Any]) -> None:
    """peft gives them other names; it is the parameters that count."""
    assert run(freezing={"name": "lora", "rank": 2}, run={"max_steps": 2}).error is None
    [ctx] = CONTEXTS
    assert ctx.new == ctx.trained and all(".lora_" in name for name in ctx.new) and len(ctx.new) == 2 * 14


def test_the_start_is_what_was_loaded_read_again(run: Callable[..., Any], fttool_tiny_model: Path) -> None:
    """After training, from the files; and the run's random state is left alone."""
    assert run().error is None
    expected = load_file(fttool_tiny_model / "model.safetensors")
    assert CALLED["start"].keys() == expected.keys()
    assert all(torch.equal(CALLED["start"][name], values) for name, values in expected.items())
    assert not any(torch.equal(CALLED["end"][name], values) for name, values in expected.items() if values.ndim > 1)
    assert CALLED["randomness kept"]


def test_random_weights_are_drawn_again_alike(run: Callable[..., Any], fttool_tiny_model: Path) -> None:
    done = run(model={"source": f"config:{fttool_tiny_model / 'config.json'}"}, run={"max_steps": 2, "seed": 4})
    assert done.error is None and CALLED["randomness kept"]
    norms = [name for name in CALLED["start"] if "norm" in name]
    assert CALLED["start"].keys() == {name for name, _ in CONTEXTS[0].model.named_parameters()}
    assert all(torch.equal(CALLED["start"][name], torch.ones(16)) for name in norms)
    assert CONTEXTS[0].new == frozenset()


def test_a_new_head_is_not_in_the_start(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = tmp_path / "classes.jsonl"
    write_rows(rows, ({"text": f"row {n}", "label": n % 2} for n in range(12)))
    done = run(task="classification", data={"train": [{"path": str(rows)}]}, run={"max_steps": 2})
    assert done.error is None
    assert CONTEXTS[0].new == {"score.weight"} and "score.weight" not in CALLED["start"]
    assert "score.weight" in CALLED["end"] and "model.norm.weight" in CALLED["start"]


# -- the bar ---------------------------------------------------------------------------------------------------------


def test_tracking_yields_all_items_on_every_screen(capsys: pytest.CaptureFixture[str]) -> None:
    for screen in (Screen(), Lines(), Bar()):
        assert list(screen.track([3, 1, 2], "weighing")) == [3, 1, 2]
    assert capsys.readouterr().err.startswith("… weighing\n")
    assert list(Screen().track([], "nothing")) == []


def test_a_terminal_shows_a_bar_beside_that_of_the_run() -> None:
    from rich.console import Console

    for opened in (False, True):
        bar = Bar()
        bar.console = Console(file=io.StringIO(), force_terminal=True, width=80)
        if opened:
            bar.started(10, 0)
        for _ in bar.track(range(5), "weighing 5 rows"):
            if bar.progress is not None:
                assert [task.description for task in bar.progress.tasks] == ["", "weighing 5 rows"]
                bar.progress.refresh()
        if opened:
            assert bar.progress is not None and len(bar.progress.tasks) == 1
        bar.stopped()
        shown: Any = bar.console.file
        assert "weighing 5 rows" in shown.getvalue() and "0/5" in shown.getvalue()
