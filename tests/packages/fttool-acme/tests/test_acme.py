"""The contracts of the families, the numbers of these strategies, and runs that use them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fttool_acme
import pytest
from fttool_acme import EveryOther, MovingAverage, NoUrls, Top5, Trapezoid
from fttool_acme.hello import main
from fttool_acme.metric import hits
from fttool_acme.regularizer import Average
from fttool_acme.schedule import trapezoid

from fttool.api import Example, FilterContext, FreezingContext, Predictions, layers
from fttool.testing import (
    FilterContract,
    FreezingContract,
    MetricContract,
    RegularizerContract,
    ScheduleContract,
    plugins,
    run_recipe,
    tiny_model,
)


class TestTrapezoid(ScheduleContract):
    strategy = Trapezoid
    options = ({}, {"climb": 0.0, "fall": 0.0}, {"climb": 0.5, "fall": 0.5})


class TestNoUrls(FilterContract):
    strategy = NoUrls
    options = ({}, {"where": "anywhere"})


class TestEveryOther(FreezingContract):
    strategy = EveryOther
    options = ({}, {"first": 1})


class TestMovingAverage(RegularizerContract):
    strategy = MovingAverage
    options = ({}, {"decay": 0.5})


class TestTop5(MetricContract):
    strategy = Top5
    options = ({}, {"k": 1})


# -- numbers -------------------------------------------------------------------------------------------------------


def test_the_trapezoid() -> None:
    factors = [trapezoid(step, climb=2, fall=4, total=8) for step in range(10)]
    assert factors == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


def test_rows_with_addresses_are_dropped() -> None:
    asked = Example(origin="a:1", prompt="What is at https://example.org?", completion="A page.")
    told = Example(origin="a:2", prompt="Where?", completion="At www.example.org, or HTTP://example.org/x.")
    plain = Example(origin="a:3", prompt="Where?", completion="In the httpd of www fame.")
    context = FilterContext(seed=0)
    assert NoUrls().build(context)([asked, told, plain]) == [None, "has a web address", None]
    dropped = NoUrls(where="anywhere").build(context)([asked, told, plain])
    assert dropped == ["has a web address", "has a web address", None]


@pytest.mark.parametrize("first", [0, 1])
def test_every_other_layer_trains(first: Any) -> None:
    model = tiny_model(num_hidden_layers=5)
    context = FreezingContext(model=model, layers=layers(model), total_steps=1, steps_per_epoch=1)
    (unit,) = EveryOther(first=first).build(context)
    trained = {int(name.split(".")[2]) for name in unit.parameters}
    assert trained == {0, 2, 4} if first == 0 else trained == {1, 3}
    assert all(name.startswith("model.layers.") for name in unit.parameters)


def test_the_average_is_the_sum_of_its_past() -> None:
    import torch

    model = tiny_model()
    start = [p.detach().double() for p in model.parameters()]
    average = Average(model, decay=0.75)
    seen = []
    for step in range(1, 4):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step)
        average(model, step)
        seen.append([p.detach().double() for p in model.parameters()])
    average.write(model)
    for index, p in enumerate(model.parameters()):
        expected = 0.75**3 * start[index] + 0.25 * sum(0.75 ** (2 - k) * seen[k][index] for k in range(3))
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("sharding", "problems"), [("none", 0), ("ddp", 0), ("zero", 1), ("fsdp", 1)])
def test_the_average_needs_whole_weights(sharding: str, problems: int) -> None:
    recipe: Any = SimpleNamespace(sharding=SimpleNamespace(id=lambda: sharding))
    assert len(list(MovingAverage().check(recipe))) == problems


def test_top_five() -> None:
    import torch

    logits_NV = torch.arange(7.0).repeat(3, 1)  # token 6 is the likeliest, then 5, 4 …
    predictions = Predictions(logits_NV=logits_NV, targets_N=torch.tensor([6, 2, 1]), losses_N=torch.zeros(3))
    assert hits(predictions, k=5).tolist() == [2, 3]
    assert hits(predictions, k=1).tolist() == [1, 3]
    assert hits(predictions, k=50).tolist() == [3, 3]


def test_hello(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out == "hello, plugins\n"


# -- runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any]) -> dict[str, Any]:
    """Six updates with a rate that does not fall, so that a run may be made longer."""
    return {
        **fttool_recipe,
        "run": {**fttool_recipe["run"], "max_steps": 6},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": "constant",
        "regularizers": [{"name": "acme.ema", "decay": 0.5}],
    }


def test_a_resumed_average_is_the_same(recipe: dict[str, Any], tmp_path: Path) -> None:
    acme = plugins(acme=fttool_acme)
    weights = {}
    for name in ("straight", "in two parts", "without average"):
        folder = tmp_path / name
        folder.mkdir()
        changed = {**recipe, "regularizers": []} if name == "without average" else recipe
        first = ["run.max_steps=3"] if name == "in two parts" else []
        result = run_recipe(changed, folder, plugins=acme, overrides=first)
        assert result.exit_code == 0, result.error
        if first:
            result = run_recipe(changed, folder, plugins=acme, resume=True)
            assert result.exit_code == 0, result.error
        assert result.summary["steps"] == 6
        weights[name] = (result.run_dir / "model" / "model.safetensors").read_bytes()
    assert weights["in two parts"] == weights["straight"]
    assert weights["without average"] != weights["straight"]


def test_the_diary_tells_the_run(recipe: dict[str, Any], tmp_path: Path) -> None:
    watched = {**recipe, "regularizers": [], "plugins": {"observe": ["acme"]}, "run": {"max_steps": 2, "log_every": 1}}
    result = run_recipe(watched, tmp_path, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 0, result.error
    lines = (result.run_dir / "acme-diary.txt").read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "loaded a recipe with schedule constant",
        "started 2 updates",
        "step 1",
        "step 2",
        "saved checkpoint-2",
        "finished after 2 updates",
    ]


def test_phases_that_overlap_are_refused(recipe: dict[str, Any], tmp_path: Path) -> None:
    overlapping = {**recipe, "schedule": {"name": "acme.trapezoid", "climb": 0.6, "fall": 0.6}}
    result = run_recipe(overlapping, tmp_path, plugins=plugins(acme=fttool_acme))
    assert result.exit_code == 3
    assert "climb and fall are longer than the run" in str(result.error)
