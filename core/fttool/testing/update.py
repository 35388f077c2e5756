"""What holds for the strategies that shape an update: schedule, optimizer, regularizer, precision, sharding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from typing_extensions import override

from fttool.contracts.layers import layers
from fttool.contracts.model import TrainableUnit
from fttool.contracts.sharding import Memory, Numerics, PrecisionContext, ShardingContext, ShardingPlan
from fttool.contracts.task import MicroBatch, learned_tokens
from fttool.contracts.update import (
    Factor,
    OptimizerContext,
    OptimizerParts,
    Pull,
    Regularization,
    RegularizerContext,
    ScheduleContext,
)
from fttool.errors import FttoolError
from fttool.testing.contract import Contract, through_a_file
from fttool.testing.tiny import tiny_batch, tiny_encoded, tiny_model, tiny_score

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


class ScheduleContract(Contract):
    """A schedule: a pure function whose factors are finite, at least 0, and stand still past the end of the run."""

    total_steps: ClassVar[Sequence[int]] = (1, 2, 10, 100)
    """Lengths of the runs it is asked about."""

    @override
    def context(self) -> ScheduleContext:
        """A run of 100 updates at a peak rate of 1e-3."""
        return ScheduleContext(total_steps=100, lr=1e-3)

    @override
    def outcome(self, built: Factor) -> Any:
        return [built(step) for step in range(101)]

    def _factor(self, instance: Any, total: int) -> Factor:
        return instance.build(ScheduleContext(total_steps=total, lr=self.context().lr))

    def test_factors_are_finite_and_not_negative(self, instance: Any) -> None:
        """At every step of runs of every length."""
        for total in self.total_steps:
            factor = self._factor(instance, total)
            factors = [factor(step) for step in range(total + 1)]
            assert all(math.isfinite(one) and one >= 0 for one in factors), factors

    def test_something_is_learned(self, instance: Any) -> None:
        """Some step has a rate above 0."""
        factor = self._factor(instance, max(self.total_steps))
        assert any(factor(step) > 0 for step in range(max(self.total_steps)))

    def test_it_stands_still_past_the_end(self, instance: Any) -> None:
        """The loop asks once more after the last update."""
        for total in self.total_steps:
            factor = self._factor(instance, total)
            assert factor(total) == factor(total + 1) == factor(10 * total + 7)

    def test_it_has_no_memory(self, instance: Any) -> None:
        """A resumed run asks for a later step first."""
        factor = instance.build(self.context())
        forwards = [factor(step) for step in range(100)]
        assert [factor(step) for step in reversed(range(100))] == forwards[::-1]


class OptimizerContract(Contract):
    """An optimizer: a torch class over core's parameter groups whose state comes back, and that bears pulls."""

    @override
    def context(self) -> OptimizerContext:
        import torch

        return OptimizerContext(device=torch.device("cpu"), unfused=False)

    @override
    def outcome(self, built: OptimizerParts) -> Any:
        model = tiny_model()
        self._update(model, self._optimizer(built, model), range(2))
        return _weights(model)

    def _optimizer(self, parts: OptimizerParts, model: PreTrainedModel, pull: float = 0.0) -> torch.optim.Optimizer:
        """The optimizer as core makes it, over two kinds of groups: with weight decay and without."""
        from fttool.training.groups import make_groups, optimizer_groups
        from fttool.training.pulls import anchored

        parameters = dict(model.named_parameters())
        groups = make_groups(
            parameters,
            [TrainableUnit(parameters=frozenset(parameters))],
            lambda _: 1.0,
            lr=0.01,
            weight_decay=0.1,
            pulls=[Pull(coefficient=lambda _: pull)],
            keys=lambda name, p: parts.group_keys(name, p, layers(model)) if parts.group_keys else {},
        )
        kind: Any = anchored(parts.optimizer_class) if pull else parts.optimizer_class
        return kind(optimizer_groups(model, groups), **parts.options)

    def _update(self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, steps: Iterable[int]) -> None:
        """Updates with random gradients, other ones for each step."""
        import torch

        for step in steps:
            draw = torch.Generator().manual_seed(step)
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=draw)
            optimizer.step()
            optimizer.zero_grad()

    def test_an_update_moves_every_parameter(self, instance: Any) -> None:
        """Matrices and vectors, under groups with and without weight decay; all stay finite."""
        model, start = tiny_model(), _weights(tiny_model())
        self._update(model, self._optimizer(instance.build(self.context()), model), range(2))
        assert all(p.isfinite().all() for p in model.parameters())
        still = [name for name, values in _weights(model).items() if values == start[name]]
        assert still == []

    def test_it_goes_on_where_it_was(self, instance: Any) -> None:
        """Two updates, a checkpoint, and one more: bit for bit what three updates give."""
        straight, resumed = tiny_model(), tiny_model()
        self._update(straight, self._optimizer(instance.build(self.context()), straight), range(3))
        before = self._optimizer(instance.build(self.context()), resumed)
        self._update(resumed, before, range(2))
        after = self._optimizer(instance.build(self.context()), resumed)
        after.load_state_dict(through_a_file(before.state_dict()))
        self._update(resumed, after, [2])
        assert _weights(resumed) == _weights(straight)

    def test_it_bears_a_pull(self, instance: Any) -> None:
        """Core keeps pulls towards the start inside the optimizer, so its class must stand being wrapped."""
        free, held, start = tiny_model(), tiny_model(), tiny_model()
        self._update(free, self._optimizer(instance.build(self.context()), free), range(3))
        self._update(held, self._optimizer(instance.build(self.context()), held, pull=10.0), range(3))
        assert all(p.isfinite().all() for p in held.parameters())
        assert _weights(held) != _weights(start)
        assert _weights(held) != _weights(free)


def _weights(model: PreTrainedModel) -> dict[str, Any]:
    return {name: p.tolist() for name, p in model.named_parameters()}


def regularizer_context(model: PreTrainedModel, run_dir: Path, **changes: Any) -> RegularizerContext:
    """The context of a causal language model all of which trains: three general rows, and its present weights as start.

    `run_dir` is any folder; `changes` replace fields.
    """
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    again = deepcopy(model).requires_grad_(False).eval()

    def start_model(dtype: str | None) -> PreTrainedModel:
        import torch

        return deepcopy(again) if dtype is None else deepcopy(again).to(getattr(torch, dtype))

    context = RegularizerContext(
        model=model,
        layers=layers(model),
        total_steps=10,
        trained=frozenset(weights),
        new=frozenset(),
        seed=17,
        folder=run_dir,
        run_dir=run_dir,
        score=tiny_score,
        items=learned_tokens,
        general=lambda _: [tiny_batch([row]) for row in tiny_encoded()],
        general_batch=lambda _, rows: tiny_batch([tiny_encoded()[row] for row in rows]),
        start_model=start_model,
        start=lambda: weights,
        track=lambda items, what: items,
    )
    return replace(context, **changes)


class RegularizerContract(Contract):
    """A regularizer: at least one of the parts of a `Regularization`, each of which leaves a model that works."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.run_dir = tmp_path

    @override
    def context(self) -> RegularizerContext:
        """The tiny model, with three general rows and a run directory."""
        self.model = tiny_model()
        return regularizer_context(self.model, self.run_dir)

    @override
    def outcome(self, built: Regularization) -> Any:
        """Coefficients, importance, loss and final weights after three updates."""
        import torch

        torch.manual_seed(17)
        model = self.model
        if built.modify is not None:
            built.modify(model)
        names = [name for name, _ in model.named_parameters()]
        coefficients = [[pull.coefficient(name) for name in names] for pull in built.pulls]
        importance = [
            {name: values.tolist() for name, values in pull.importance().items()}
            for pull in built.pulls
            if pull.importance is not None
        ]
        loss = self.loss(built).item() if built.loss is not None else None
        self.use(built)
        if built.final_weights is not None:
            built.final_weights(model.named_parameters())
        return coefficients, importance, loss, [p.tolist() for p in model.parameters()]

    def loss(self, built: Regularization, rows: Sequence[int] = (0, 1, 2)) -> Tensor:
        """Its loss on some of three rows, in the fourth update of a run."""
        assert built.loss is not None
        batch = tiny_batch([tiny_encoded()[row] for row in rows])
        return built.loss(self.model, MicroBatch(inputs=batch, rows=rows, update=3), tiny_score(self.model, batch))

    @override
    def use(self, built: Regularization) -> None:
        """Three updates that change all weights."""
        import torch

        for step in range(1, 4):
            with torch.no_grad():
                for p in self.model.parameters():
                    p.mul_(1 + 0.01 * step)
            if built.after_update is not None:
                built.after_update(self.model, step)

    def test_it_does_something(self, instance: Any) -> None:
        """A `Regularization` of at least one part."""
        built = instance.build(self.context())
        assert isinstance(built, Regularization)
        assert any(bool(getattr(built, name)) for name in built.__dataclass_fields__)

    def test_pulls_have_finite_coefficients(self, instance: Any) -> None:
        """At least 0 for every parameter, above 0 for some."""
        pulls = instance.build(self.context()).pulls
        coefficients = [pull.coefficient(name) for pull in pulls for name, _ in self.model.named_parameters()]
        assert all(math.isfinite(coefficient) and coefficient >= 0 for coefficient in coefficients)
        assert not pulls or any(coefficient > 0 for coefficient in coefficients), "it pulls nothing"

    def test_importance_is_finite_and_not_negative(self, instance: Any) -> None:
        """For parameters that there are, in their shapes, and above 0 somewhere; the model is left as it was."""
        pulls = instance.build(self.context()).pulls
        parameters, before = dict(self.model.named_parameters()), _weights(self.model)
        for pull in pulls:
            if pull.importance is not None:
                assert pull.towards == "start", "an importance weighs a pull towards the start"
                importance = pull.importance()
                for name, values in importance.items():
                    assert values.shape == parameters[name].shape, name
                    assert values.isfinite().all() and (values >= 0).all(), name
                assert any((values > 0).any() for values in importance.values()), "nothing is important"
        assert _weights(self.model) == before
        assert self.model.training and all(p.grad is None for p in parameters.values())

    def test_general_rows_are_asked_for_where_it_says_so(self, instance: Any) -> None:
        """A recipe whose general rows nothing reads is told so, by `uses_general`."""
        asked: list[str | None] = []
        ctx = self.context()

        def general(name: str | None) -> Any:
            asked.append(name)
            return ctx.general(name)

        self.outcome(instance.build(replace(ctx, general=general)))
        assert instance.uses_general or not asked, "it asks for general rows, and uses_general says otherwise"

    def test_a_loss_is_a_finite_scalar(self, instance: Any) -> None:
        """It is added to the loss of an update."""
        built = instance.build(self.context())
        if built.loss is not None:
            if built.modify is not None:
                built.modify(self.model)
            loss = self.loss(built)
            assert loss.ndim == 0 and loss.isfinite()

    def test_a_loss_is_a_mean_over_what_it_counts(self, instance: Any) -> None:
        """So that an update's is the same whatever its micro-batches: of parts of one, weighted by their items."""
        import torch

        built = instance.build(self.context())
        if built.loss is None:
            return
        if built.modify is not None:
            built.modify(self.model)
        self.model.eval()
        self.use(built)
        parts: list[Tensor] = []
        items: list[int] = []
        for rows in ((0,), (1, 2)):
            batch = MicroBatch(inputs=tiny_batch([tiny_encoded()[row] for row in rows]), rows=rows, update=3)
            items.append(built.items(batch) if built.items is not None else learned_tokens(batch.inputs))
            parts.append(self.loss(built, rows))
        mean = sum(part * number for part, number in zip(parts, items, strict=True)) / sum(items)
        torch.testing.assert_close(mean, self.loss(built), rtol=1e-5, atol=1e-6)

    def test_the_model_still_works(self, instance: Any) -> None:
        """After all that the regularizer does: finite logits, gradients, and weights of the same shapes."""
        import torch

        built = instance.build(self.context())
        shapes = {name: p.shape for name, p in self.model.state_dict().items()}
        if built.modify is not None:
            built.modify(self.model)
        logits = self.model(input_ids=torch.tensor([[4, 5, 6]])).logits
        logits.sum().backward()
        assert logits.isfinite().all()
        self.use(built)
        if built.final_weights is not None:
            built.final_weights(self.model.named_parameters())
        assert all(p.isfinite().all() for p in self.model.parameters())
        saved = {name: p.shape for name, p in self.model.state_dict().items()}
        assert saved == shapes, "the saved model would have other parameters than the one it came from"


class PrecisionContract(Contract):
    """A precision: number formats with a reason, or words for why this hardware cannot have them."""

    @override
    def context(self) -> PrecisionContext:
        """A CPU that computes in bfloat16."""
        import torch

        return PrecisionContext(device=torch.device("cpu"), native_bf16=True)

    @override
    def outcome(self, built: Numerics) -> Any:
        return built

    def test_hardware_gets_formats_or_words(self, instance: Any) -> None:
        """Whatever the device: formats and why they were chosen, or an error that says what to do."""
        import torch

        for device, native in (("cpu", True), ("cpu", False), ("cuda", True), ("cuda", False), ("mps", False)):
            try:
                numerics = instance.build(PrecisionContext(device=torch.device(device), native_bf16=native))
            except FttoolError as refused:
                assert refused.problems[0].hint, "say what to do instead"
                continue
            assert numerics.autocast in ("no", "bf16", "fp16")
            assert numerics.weights in ("float32", "bfloat16")
            assert numerics.reason


class ShardingContract(Contract):
    """Sharding: a plan of as many processes as the recipe can know beforehand, with a way to prove itself."""

    @override
    def context(self) -> ShardingContext:
        """A CPU, layers of one class, and a model of 100 million parameters that takes a fraction of what there is."""
        import torch

        size = 4 * 10**8
        memory = Memory(
            weights=size,
            gathered=size,
            copies=0,
            gradients=size,
            optimizer=2 * size,
            unit=size // 10,
            activations=size,
            device=100 * size,
        )
        return ShardingContext(
            device=torch.device("cpu"), layer_classes=frozenset({"LlamaDecoderLayer"}), memory=lambda: memory
        )

    @override
    def outcome(self, built: ShardingPlan) -> Any:
        return built.processes, sorted(built.arguments)

    def test_the_plan_is_what_the_recipe_knows(self, instance: Any) -> None:
        """`world_size`, asked before anything is loaded, is what the plan starts."""
        plan = instance.build(self.context())
        assert instance.world_size >= 1
        assert plan.processes == instance.world_size == instance.launch.processes, "override launch, which says both"
        assert isinstance(plan.arguments, Mapping)
        assert callable(plan.prove)
