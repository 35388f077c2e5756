"""The contracts find what they are for: each of these strategies breaks one law, and that law's test fails."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from fttool import testing
from fttool.api import (
    Batching,
    Encoded,
    Example,
    Filter,
    Format,
    Freezing,
    FreezingPlan,
    LayerRates,
    Masking,
    Measure,
    Metric,
    Mixing,
    Optimizer,
    OptimizerParts,
    Regularization,
    Regularizer,
    Schedule,
    Strategy,
    Task,
    TrainableUnit,
    from_update,
)
from fttool.errors import ExitCode, RecipeError
from fttool.listing import find
from fttool.plugins import Plugins
from fttool.testing import CONTRACTS, run_recipe
from fttool.testing.tiny import tiny_examples, tiny_model, tiny_tokenizer

from ...probes import imported_by

_numbers = iter(range(10**6))


def strategy(base: type[Strategy], build: Callable[[Any, Any], Any], **namespace: Any) -> type[Any]:
    """A strategy of the family `base` with this `build`."""
    name = f"bad.x{next(_numbers)}"
    annotations = {"name": Literal[name], **namespace.pop("annotations", {})}
    return type(
        "Bad", (base,), {"__doc__": "Bad.", "__annotations__": annotations, "name": name, "build": build, **namespace}
    )


def laws(bad: type[Any], **more: Any) -> set[str]:
    """The laws of its family that a strategy breaks."""
    contract = type("Laws", (CONTRACTS[bad.family],), {"strategy": bad, **more})()
    broken: set[str] = set()
    for name in dir(contract):
        law = getattr(contract, name)
        if not name.startswith("test_") or name == "test_its_import_is_light":
            continue
        with tempfile.TemporaryDirectory() as folder:
            contract.run_dir = Path(folder)
            values = {"instance": bad(**contract.options[0]), "tied": False, "cut": 5, "tmp_path": Path(folder)}
            arguments = {one: values[one] for one in law.__code__.co_varnames[1 : law.__code__.co_argcount]}
            try:
                law(**arguments)
            except BaseException:  # pytest.fail and pytest.raises raise beyond Exception
                broken.add(name)
    return broken


def by_chance(drawn: float, step: int) -> float:
    return drawn


class Counter:
    """Has memory, as no schedule may."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 1 / self.calls


def encode_shifted(example: Example) -> Encoded:
    return Encoded([5, 6, 7], [-100, 7, -100])


def encode_first(example: Example) -> Encoded:
    return Encoded([5, 6, 7], [5, 6, 7])


def read_carelessly(row: Any, origin: str) -> Example:
    return Example(origin=origin, prompt=row["prompt"], completion=row["completion"])


class Forgetful(torch.optim.SGD):
    """Loses its momentum at a checkpoint."""

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class Matrices(torch.optim.SGD):
    """Leaves vectors alone, without a word."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = p.grad * (p.ndim > 1)
        super().step()


class Lossy:
    """Saves a state that it does not take back."""

    def __init__(self) -> None:
        self.updates = 0

    def __call__(self, model: Any, updates: int) -> None:
        self.updates += 1

    def state_dict(self) -> dict[str, int]:
        return {"updates": self.updates}

    def load_state_dict(self, state: Any) -> None:
        pass


class Pickled(Lossy):
    """Has a class of its own in its state, which only a pickle could hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"updates": Lossy}


class Batches:
    """The batches of `padded`, with a fault."""

    def __init__(self, ctx: Any, fault: str) -> None:
        self.right = find(Plugins.of(), "batching.padded")().build(ctx)
        self.fault = fault

    def plan(self, order: Any, epoch: int) -> Any:
        plan = self.right.plan(order, epoch)
        match self.fault:
            case "loses a row":
                return plan[:-1]
            case "shrinks":
                return [[group] for micro in plan for group in micro] if epoch > 2 else plan
            case "too large":
                return [[group for micro in plan for group in micro]]
        return plan

    def collate(self, sequences: Any) -> Any:
        tensors = self.right.collate(sequences)
        if self.fault == "learns the first token":
            tensors["labels"][:, 0] = tensors["input_ids"][:, 0]
        return tensors


def faulty_batching(fault: str) -> type[Any]:
    return strategy(Batching, lambda self, ctx: Batches(ctx, fault))


def mean_metric() -> Measure:
    return Measure(statistics=lambda p: p.losses_N.double().mean()[None], value=lambda total: float(total[0]))


def summed_metric(details: Callable[[Any], Any]) -> Measure:
    return Measure(statistics=lambda p: p.losses_N.double().sum()[None], value=lambda t: float(t[0]), details=details)


def zero(weights: Any) -> None:
    with torch.no_grad():
        for _, p in weights:
            p.mul_(float("nan"))


def first_unit(ctx: Any, **changes: Any) -> TrainableUnit:
    return TrainableUnit(parameters=frozenset(ctx.layers.blocks[0]), **changes)


def late(ctx: Any) -> TrainableUnit:
    return first_unit(ctx, trains_in=from_update(3))


def unfreezing(*units: TrainableUnit) -> FreezingPlan:
    return FreezingPlan(units=units)


MUTANTS: dict[str, tuple[Callable[[], type[Any]], set[str]]] = {
    "negative factor": (
        lambda: strategy(Schedule, lambda self, ctx: lambda step: 0.5 - step / ctx.total_steps),
        {"test_factors_are_finite_and_not_negative", "test_it_stands_still_past_the_end"},
    ),
    "zero factor": (lambda: strategy(Schedule, lambda self, ctx: lambda step: 0.0), {"test_something_is_learned"}),
    "schedule with memory": (
        lambda: strategy(Schedule, lambda self, ctx: Counter()),
        {"test_it_has_no_memory", "test_it_stands_still_past_the_end"},
    ),
    "chance": (
        lambda: strategy(Schedule, lambda self, ctx: partial(by_chance, random.random())),
        {"test_two_builds_do_the_same"},
    ),
    "no docstring": (
        lambda: strategy(Schedule, lambda self, ctx: lambda step: 1.0, __doc__=None),
        {"test_everything_is_documented"},
    ),
    "bare option": (
        lambda: strategy(Schedule, lambda self, ctx: lambda step: 1.0, annotations={"x": int}, x=1),
        {"test_everything_is_documented"},
    ),
    "too few answers": (
        lambda: strategy(Filter, lambda self, ctx: lambda rows: [None] * (len(rows) - 1)),
        {"test_every_row_gets_an_answer"},
    ),
    "long reason": (
        lambda: strategy(Filter, lambda self, ctx: lambda rows: ["no\nreason" for _ in rows]),
        {"test_every_row_gets_an_answer"},
    ),
    "epochs of different length": (
        lambda: strategy(Mixing, lambda self, ctx: lambda epoch: range(epoch + 1)),
        {
            "test_epochs_are_of_one_length_and_hold_rows",
            "test_seed_and_epoch_shuffle",
            "test_it_says_which_rows_an_epoch_has",
        },
    ),
    "rows that do not exist": (
        lambda: strategy(Mixing, lambda self, ctx: lambda epoch: [99, epoch, ctx.seed]),
        {"test_epochs_are_of_one_length_and_hold_rows", "test_it_says_which_rows_an_epoch_has"},
    ),
    "shifted labels": (
        lambda: strategy(Masking, lambda self, ctx: encode_shifted),
        {"test_labels_are_tokens_or_nothing", "test_the_text_is_the_whole_row"},
    ),
    "first label": (
        lambda: strategy(Masking, lambda self, ctx: encode_first),
        {"test_labels_are_tokens_or_nothing", "test_the_text_is_the_whole_row"},
    ),
    "lost row": (lambda: faulty_batching("loses a row"), {"test_every_row_once_per_epoch"}),
    "epochs that shrink": (lambda: faulty_batching("shrinks"), {"test_epochs_have_as_many_micro_batches"}),
    "too large": (lambda: faulty_batching("too large"), {"test_sizes_are_bounded"}),
    "first token learned": (lambda: faulty_batching("learns the first token"), {"test_micro_batches_become_tensors"}),
    "no such parameter": (
        lambda: strategy(
            Freezing, lambda self, ctx: unfreezing(first_unit(ctx), TrainableUnit(parameters=frozenset({"no.such"})))
        ),
        {"test_units_hold_parameters_once"},
    ),
    "in two units": (
        lambda: strategy(Freezing, lambda self, ctx: unfreezing(first_unit(ctx), late(ctx))),
        {"test_units_hold_parameters_once"},
    ),
    "nothing at first": (
        lambda: strategy(Freezing, lambda self, ctx: unfreezing(late(ctx))),
        {"test_units_hold_parameters_once"},
    ),
    "extendable, but other stages": (
        lambda: strategy(
            Freezing,
            lambda self, ctx: unfreezing(
                first_unit(ctx),
                TrainableUnit(parameters=frozenset(ctx.layers.head), trains_in=from_update(ctx.total_steps // 2)),
            ),
        ),
        {"test_extendable_means_the_same_in_a_longer_run"},
    ),
    "extendable, but other units": (
        lambda: strategy(
            Freezing,
            lambda self, ctx: unfreezing(
                first_unit(ctx),
                *[TrainableUnit(parameters=frozenset(ctx.layers.head), trains_in=from_update(15))]
                * (ctx.total_steps > 15),
            ),
        ),
        {"test_extendable_means_the_same_in_a_longer_run"},
    ),
    "infinite rate": (
        lambda: strategy(LayerRates, lambda self, ctx: lambda name: float("inf")),
        {"test_factors_are_finite"},
    ),
    "optimizer without memory": (
        lambda: strategy(
            Optimizer, lambda self, ctx: OptimizerParts(optimizer_class=Forgetful, options={"momentum": 0.9})
        ),
        {"test_it_goes_on_where_it_was"},
    ),
    "optimizer of matrices": (
        lambda: strategy(Optimizer, lambda self, ctx: OptimizerParts(optimizer_class=Matrices, options={})),
        {"test_an_update_moves_every_parameter"},
    ),
    "nothing to regularize": (
        lambda: strategy(Regularizer, lambda self, ctx: Regularization()),
        {"test_it_does_something"},
    ),
    "state that is not taken back": (
        lambda: strategy(Regularizer, lambda self, ctx: Regularization(after_update=Lossy())),
        {"test_its_state_comes_back"},
    ),
    "state with a class": (
        lambda: strategy(Regularizer, lambda self, ctx: Regularization(after_update=Pickled())),
        {"test_its_state_comes_back"},
    ),
    "broken weights": (
        lambda: strategy(Regularizer, lambda self, ctx: Regularization(final_weights=zero)),
        {"test_the_model_still_works", "test_two_builds_do_the_same"},
    ),
    "tables of no shape": (
        lambda: strategy(Metric, lambda self, ctx: summed_metric(lambda _: {"t": [["a"], []]})),
        {"test_its_tables_are_tables"},
    ),
    "a mean that does not add up": (
        lambda: strategy(Metric, lambda self, ctx: mean_metric()),
        {"test_statistics_add_up"},
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_law_is_found(name: str) -> None:
    make, expected = MUTANTS[name]
    assert laws(make()) == expected


def test_a_careless_format_is_found() -> None:
    bad = strategy(Format, lambda self, ctx: read_carelessly)
    found = laws(bad, reads=[{"prompt": "a", "completion": "b"}])
    assert found == {
        "test_bad_rows_are_refused_in_a_sentence",
        "test_whatever_stands_in_a_row_is_read_or_refused",
        "test_its_example_is_read",
    }


def test_a_mean_in_the_score_is_found() -> None:
    """A loss that depends on what else is in the micro-batch."""
    from fttool.contracts.task import Predictions, TaskContext

    good = find(Plugins.of(), "task.sft")().build(TaskContext())

    def score(model: Any, batch: Any) -> Predictions:
        seen = good.score(model, batch)
        return Predictions(
            logits_NV=seen.logits_NV, targets_N=seen.targets_N, losses_N=seen.losses_N / len(seen.losses_N)
        )

    parts = type(good)(**{**vars(good), "score": score})
    bad = strategy(Task, lambda self, ctx: parts)
    contract = type("Laws", (CONTRACTS["task"],), {"strategy": bad})()
    with pytest.raises(AssertionError, match="not close"):
        contract.test_a_score_does_not_depend_on_its_neighbours(bad())


# -- what tests are made of ----------------------------------------------------------------------------------------


def test_the_pytest_plugin_is_light() -> None:
    """pytest loads it wherever fttool is installed."""
    assert imported_by("import pytest, fttool.testing", "torch", "pydantic", "rich") == set()


def test_every_public_name_is_there() -> None:
    assert all(getattr(testing, name) is not None for name in testing.__all__)
    with pytest.raises(AttributeError, match="no_such_contract"):
        _ = testing.no_such_contract


def test_the_tiny_tokenizer_gives_text_back() -> None:
    tokenizer = tiny_tokenizer()
    text = "What is 2 plus 3?\n\tA tab, {braces} and ~tildes~."
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)
    rendered = tokenizer.apply_chat_template([dict(m) for m in tiny_examples()[1].messages], tokenize=False)
    assert tokenizer.decode(tokenizer(rendered)["input_ids"]) == rendered


def test_the_tiny_model_is_the_same_each_time_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = tiny_model(), tiny_model()
    assert torch.rand(1) == expected
    assert all(p.equal(q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_the_saved_model_is_that_model(fttool_tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(fttool_tiny_model)
    assert all(p.equal(q) for p, q in zip(loaded.parameters(), tiny_model().parameters(), strict=True))
    tokenizer = AutoTokenizer.from_pretrained(fttool_tiny_model)
    assert tokenizer.is_fast
    assert tokenizer.chat_template == tiny_tokenizer().chat_template
    assert tokenizer("a\n b")["input_ids"] == tiny_tokenizer()("a\n b")["input_ids"]


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_recipe_runs(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    result = run_recipe(fttool_recipe, tmp_path)
    assert (result.exit_code, result.error) == (ExitCode.OK, None)
    assert result.run_dir == tmp_path / "runs" / "recipe"
    assert result.summary["steps"] == 4
    assert [line["step"] for line in result.metrics if "loss" in line] == [1, 2, 3, 4]
    assert result.events[0]["event"] == "started"


def test_what_is_wrong_comes_back(fttool_recipe: dict[str, Any], tmp_path: Path) -> None:
    result = run_recipe(fttool_recipe, tmp_path, overrides=["schedule.name=cosin"])
    assert result.exit_code == ExitCode.RECIPE
    assert isinstance(result.error, RecipeError)
    assert "did you mean 'cosine'?" in str(result.error)
    assert not (tmp_path / "runs").exists()


def test_a_recipe_may_be_text(tmp_path: Path) -> None:
    result = run_recipe("recipe = 1\n[model\n", tmp_path)
    assert result.exit_code == ExitCode.RECIPE
    assert f"{tmp_path / 'recipe.toml'}:2" in str(result.error)
