"""`ema`: the average against a naive one, in a run too, through skipped updates and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from fttool.api import RecipeError, Regularization, Regularizer, RegularizerContext, hookimpl
from fttool.testing import plugins, regularizer_context, run_recipe, tiny_model
from fttool_plugins.regularizer.ema import EMA, decay_of

from ...runs import weights

Weights = dict[str, Tensor]


def naive(steps: list[Weights], decay: float, warmup: bool, first: int = 1) -> Weights:
    """The average of the weights after updates 1, 2 …, number by number in float64."""
    taken = steps[first - 1 :]
    mean = {name: values.double() for name, values in taken[0].items()}
    for n, after in enumerate(taken[1:], start=1):
        kept = min(decay, (1 + n) / (10 + n)) if warmup else decay
        mean = {name: kept * mean[name] + (1 - kept) * values.double() for name, values in after.items()}
    return mean


def moved(model: Any, step: int) -> Weights:
    """Change the weights as an update would; what they are now."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float32).to(p.dtype), alpha=0.1)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def averaged(strategy: EMA, updates: int, model: Any = None, **changes: Any) -> tuple[list[Weights], Weights]:
    """The weights after each update, and the final ones."""
    model = model or tiny_model()
    built = strategy.build(regularizer_context(model, Path(), **changes))
    assert built.after_update is not None and built.final_weights is not None
    steps = []
    for step in range(1, updates + 1):
        steps.append(moved(model, step))
        built.after_update(model, step)
        assert all(torch.equal(p, steps[-1][name]) for name, p in model.named_parameters()), "training is left alone"
    built.final_weights(model.named_parameters())
    return steps, {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.2, 0.9])
@pytest.mark.parametrize(("start", "first"), [(0, 1), (1, 1), (3, 3), (0.5, 5)])
def test_the_final_weights_are_the_average(warmup: bool, decay: float, start: float, first: int) -> None:
    steps, found = averaged(EMA(decay=decay, warmup=warmup, start=start), updates=7)
    expected = naive(steps, decay, warmup, first)
    for name, values in found.items():
        torch.testing.assert_close(values.double(), expected[name], rtol=0, atol=1e-6)


def test_a_wrong_decay_would_be_seen() -> None:
    steps, found = averaged(EMA(decay=0.9, warmup=False), updates=7)
    wrong = naive(steps, 0.89, False)
    assert max(float((values - wrong[name]).abs().max()) for name, values in found.items()) > 1e-3


def test_the_warmup_keeps_less_early_on() -> None:
    assert [decay_of(n, decay=0.5, warmup=True) for n in (1, 2, 8, 9)] == [2 / 11, 3 / 12, 0.5, 0.5]
    assert decay_of(1, decay=0.5, warmup=False) == 0.5


def test_what_never_trains_is_not_held_and_what_unfreezes_later_is() -> None:
    """A weight that never moved is its own average, bit for bit, so one that unfreezes enters from where it started."""
    model = tiny_model()
    built = EMA(decay=0.5, warmup=False).build(
        regularizer_context(model, Path(), trained=frozenset({"model.norm.weight"}))
    )
    average: Any = built.after_update
    norm: Any = model.get_parameter("model.norm.weight")
    start = norm.detach().clone()
    for step in range(1, 6):
        if step >= 4:
            with torch.no_grad():
                norm.add_(1.0)
        average(model, step)
        if step < 4:
            assert torch.equal(average.mean["model.norm.weight"], start)
    assert average.mean.keys() == {"model.norm.weight"}
    torch.testing.assert_close(average.mean["model.norm.weight"], start + 0.5 * 0.5 * 1 + 0.5 * 2)


def test_half_precision_weights_are_averaged_in_float32() -> None:
    """In bfloat16 the average would stand still: a thousandth of a difference is lost in its rounding."""
    model = tiny_model().to(torch.bfloat16)
    steps, found = averaged(EMA(decay=0.999, warmup=False), updates=40, model=model)
    expected = naive(steps, 0.999, False)
    for name, values in found.items():
        assert values.dtype == torch.bfloat16
        torch.testing.assert_close(values, expected[name].to(torch.bfloat16), rtol=0.008, atol=1e-6)
    assert any(not torch.equal(values, steps[0][name]) for name, values in found.items())


def test_a_saved_average_goes_on_unless_a_longer_run_begins_it_later() -> None:
    def average(total: int) -> Any:
        context = regularizer_context(tiny_model(), Path(), total_steps=total)
        return EMA(decay=0.5, warmup=False, start=0.5).build(context).after_update

    model, saved = tiny_model(), average(4)
    for step in (1, 2, 3):
        moved(model, step)
        saved(model, step)
    same, longer = average(4), average(8)
    same.load_state_dict(saved.state_dict())
    assert same.taken_in == 2 and all(torch.equal(same.mean[name], saved.mean[name]) for name in saved.mean)
    longer.load_state_dict(saved.state_dict())
    assert longer.taken_in == 0 and not longer.mean
    with pytest.raises(RecipeError, match=r"begun after update 3 .* and there were 3 .*, averaged from update 2 on"):
        average(6).load_state_dict(saved.state_dict())


def test_trying_whether_a_state_can_be_saved_copies_no_average(monkeypatch: pytest.MonkeyPatch) -> None:
    from fttool.training.saving import savable_state

    sizes: list[int] = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda file, **options: sizes.append(file.getbuffer().nbytes) or load(file, **options)
    )
    model, average = tiny_model(), EMA().build(regularizer_context(tiny_model(), Path())).after_update
    assert average is not None
    average(model, 1)
    found = savable_state({"regularizers.0.after_update": average})
    assert sizes[0] < 10_000 < sum(4 * p.numel() for p in model.parameters())
    assert all(
        torch.equal(found["regularizers.0.after_update"]["mean"][name], p) for name, p in model.named_parameters()
    )


def test_a_start_after_the_end_is_refused() -> None:
    with pytest.raises(RecipeError, match="starts after 11 updates, the run has 10"):
        EMA(start=11).build(regularizer_context(tiny_model(), Path()))


@pytest.mark.parametrize(("max_steps", "refused"), [(10, True), (11, False), (None, False)])
def test_validation_knows_a_start_after_the_end_where_the_length_is_given(max_steps: int | None, refused: bool) -> None:
    one = EMA(start=11)
    recipe = SimpleNamespace(
        evaluation=SimpleNamespace(best=None), regularizers=(one,), run=SimpleNamespace(max_steps=max_steps)
    )
    found = [problem.message for problem in one.check(recipe)]  # type: ignore[arg-type]
    assert found == (["ema starts after 11 updates, the run has 10"] if refused else [])


def test_what_it_would_overwrite_is_refused() -> None:
    def problems(one: EMA, *above: str, best: str | None = None) -> list[Any]:
        others = [SimpleNamespace(sets_final_weights=name in ("ema", "wise-ft")) for name in above]
        run = SimpleNamespace(max_steps=None)
        recipe = SimpleNamespace(evaluation=SimpleNamespace(best=best), regularizers=(*others, one), run=run)
        return list(one.check(recipe))  # type: ignore[arg-type]

    assert not problems(EMA()) and not problems(EMA(), "l2-init", "mixout")
    assert problems(EMA(), best="loss")[0].key == ("evaluation", "best")
    assert "list it first" in problems(EMA(), "wise-ft")[0].hint
    assert "list it first" in problems(EMA(), "ema")[0].hint


# -- in a run --------------------------------------------------------------------------------------------------------


class Witness(Regularizer):
    """Notes the weights after each update."""

    name: Literal["acme.witness"] = "acme.witness"

    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield the note-taking."""

        def note(model: Any, step: int) -> None:
            SEEN.append({name: p.detach().clone() for name, p in model.named_parameters()})

        return Regularization(after_update=note)


SEEN: list[Weights] = []


@pytest.fixture
def run(fttool_recipe: dict[str, Any], tmp_path: Path) -> Callable[..., Any]:
    acme = plugins(acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: [Witness], specname="fttool_strategies")))
    SEEN.clear()
    fttool_recipe["run"]["max_steps"] = 6
    fttool_recipe["data"]["eval_share"] = 0.2
    fttool_recipe["regularizers"] = [{"name": "ema", "decay": 0.8}, "acme.witness"]
    return lambda: run_recipe(fttool_recipe, tmp_path, plugins=acme)


def test_the_saved_model_is_the_average_and_the_last_evaluation_is_of_it(run: Callable[..., Any]) -> None:
    done = run()
    assert len(SEEN) == 6
    expected = naive(SEEN, 0.8, True)
    for name, values in weights(done).items():
        torch.testing.assert_close(values.double(), expected[name], rtol=0, atol=1e-6)
    last, final = [line for line in done.metrics if "eval_loss" in line][-2:]
    assert final["final"] and final["eval_loss"] != last["eval_loss"]
    assert done.summary["eval"]["after"]["loss"] == final["eval_loss"]
