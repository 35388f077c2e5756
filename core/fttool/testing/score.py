"""What holds for tasks and metrics: how a micro-batch is scored, and what numbers are made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from fttool.contracts.recipe import Recipe
from fttool.contracts.rows import Encoded, Example
from fttool.contracts.task import Answer, Measure, MetricContext, Predictions, TaskContext, TaskParts
from fttool.testing.contract import Contract
from fttool.testing.formats import learns_labels
from fttool.testing.tiny import tiny_batch, tiny_config, tiny_encoded

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class TaskContract(Contract):
    """A task: a model class, a Trainer class, and a score that does not depend on what else is in the micro-batch."""

    @override
    def context(self) -> TaskContext:
        """Nothing; for a task that learns labels, three rows of two of them, which are numbers too."""
        return TaskContext(label_counts={"1": 2, "2": 1}, rows=3) if learns_labels(self.strategy) else TaskContext()

    def model(self, parts: TaskParts) -> PreTrainedModel:
        """A tiny model of the task's class, the same each time."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return parts.model_class.from_config(tiny_config(**parts.config))

    def rows(self) -> list[Encoded]:
        """Three rows of tokens, with the classes of the context where classes are learned."""
        if not learns_labels(self.strategy):
            return tiny_encoded()
        if self.strategy.level != "word":
            return [replace(row, classes=(name,)) for row, name in zip(tiny_encoded(), "121", strict=True)]
        halves = [[-1, *((place + 1) // 2 for place in range(len(row.input_ids) - 1))] for row in tiny_encoded()]
        return [
            replace(row, words=words, classes=tuple("12"[word % 2] for word in range(max(words) + 1)))
            for row, words in zip(tiny_encoded(), halves, strict=True)
        ]

    def batch(self, parts: TaskParts, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """Rows in one micro-batch."""
        batch = tiny_batch(rows)
        if parts.targets is None:
            return batch
        words = tiny_batch([replace(row, labels=[0, *(row.words or row.labels)[1:]]) for row in rows])["labels"]
        words[:, 0] = -1
        targets = {**batch, "targets": parts.targets([row.classes or () for row in rows])}
        return {**targets, "words": words.clamp(min=-1)} if self.strategy.level == "word" else targets

    def batches(self, parts: TaskParts) -> list[dict[str, Tensor]]:
        """Micro-batches of one row each."""
        return [self.batch(parts, [row]) for row in self.rows()]

    def together(self, parts: TaskParts) -> dict[str, Tensor]:
        """The rows of `batches` in one micro-batch."""
        return self.batch(parts, self.rows())

    @override
    def outcome(self, built: TaskParts) -> Any:
        """The classes, and the losses of a batch."""
        losses_N = built.score(self.model(built).eval(), self.together(built)).losses_N
        return built.model_class, built.trainer_class, built.arguments_class, dict(built.arguments), losses_N.tolist()

    def test_the_trainer_takes_its_arguments(self, instance: Any, tmp_path: Path) -> None:
        """A `transformers.Trainer`, and arguments that its arguments class knows."""
        from transformers import Trainer, TrainingArguments

        parts = instance.build(self.context())
        assert issubclass(parts.trainer_class, Trainer)
        assert issubclass(parts.arguments_class, TrainingArguments)
        core = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "activation_checkpointing": False}
        arguments: dict[str, Any] = {**core, "report_to": "none", **parts.arguments}
        parts.arguments_class(**arguments)

    def test_a_score_is_one_loss_per_place(self, instance: Any) -> None:
        """Logits (N, V), targets (N,) and finite losses (N,) for N > 0 places."""
        parts = instance.build(self.context())
        predictions = parts.score(self.model(parts), self.together(parts))
        (count,) = predictions.losses_N.shape
        assert count > 0
        assert predictions.logits_NV.shape[0] == count
        assert predictions.targets_N.shape in ((count,), predictions.logits_NV.shape)
        assert predictions.losses_N.isfinite().all()

    def test_a_score_does_not_depend_on_its_neighbours(self, instance: Any) -> None:
        """Padding and the other rows change nothing, so accumulation 1×8 learns what 8×1 does."""
        import torch

        parts = instance.build(self.context())
        for training in (True, False):
            model = self.model(parts).train(training)
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):  # a head may have some, which is chance and no neighbour
                    module.eval()
            with torch.no_grad():
                alone = torch.cat([parts.score(model, batch).losses_N for batch in self.batches(parts)])
                together = parts.score(model, self.together(parts)).losses_N
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)

    def test_a_score_trains(self, instance: Any) -> None:
        """Gradients reach the weights."""
        parts = instance.build(self.context())
        model = self.model(parts)
        parts.score(model, self.together(parts)).losses_N.sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and any(gradient.abs().sum() > 0 for gradient in gradients)

    def test_what_it_counts_adds_up(self, instance: Any) -> None:
        """The items of micro-batches sum to those of one of the same rows: what the loss of an update is divided by."""
        parts = instance.build(self.context())
        counts = [parts.items(batch) for batch in self.batches(parts)]
        assert 0 < sum(counts) == parts.items(self.together(parts))

    def test_classes_are_named_and_known(self, instance: Any) -> None:
        """A task that learns classes names them, makes targets of them, and says so of one that it does not know."""
        parts = instance.build(self.context())
        assert learns_labels(self.strategy) == (parts.targets is not None)
        assert (instance.learns in ("row", "word")) == bool(parts.labels)
        if parts.targets is not None:
            assert sorted(parts.labels) == (sorted(self.context().label_counts) if parts.labels else [])
            assert len(parts.targets([(name,) for name in parts.labels])) == len(parts.labels)
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                parts.targets([("no such class",)])

    def test_the_model_class_alone_is_asked_for_without_rows(self, instance: Any) -> None:
        """Verbs that read a finished run have no rows at hand."""
        assert instance.build(TaskContext()).model_class is instance.build(self.context()).model_class

    def test_its_defaults_are_keys_of_a_recipe(self) -> None:
        """They fill a recipe that is silent, so a wrong one would be reported as the user's mistake."""
        for options in ({}, *self.options):
            roots = {dotted.partition(".")[0] for dotted in self.strategy.filled(options)}
            assert roots <= set(Recipe.model_fields)


class MetricContract(Contract):
    """A metric: statistics that add up over micro-batches and ranks, and a finite number made of their sum."""

    @override
    def context(self) -> MetricContext:
        """Nothing; for a metric of classes, the names of seven: of words, tags of two kinds of entities."""
        if self.strategy.level == "word":
            return MetricContext(labels=("O", "B-x", "I-x", "B-y", "I-y", "S-x", "E-y"))
        return MetricContext(labels=tuple("abcdefg")) if self.strategy.serves("row") else MetricContext()

    def predictions(self) -> Predictions:
        """What a model said at 12 places of a vocabulary of 7, of two rows; it is right at some of them. For a metric
        of numbers, 12 of them.
        """
        import torch
        import torch.nn.functional as F

        draw = torch.Generator().manual_seed(0)
        logits_NV = torch.randn(12, 7, generator=draw) * 3
        if self.strategy.level == "number":
            numbers_N = logits_NV[:, 0] + logits_NV[:, 1]
            losses_N = (logits_NV[:, 0] - numbers_N).square()
            return Predictions(logits_NV=logits_NV[:, :1], targets_N=numbers_N, losses_N=losses_N)
        targets_N = torch.where(torch.arange(12) % 3 > 0, logits_NV.argmax(-1), torch.arange(12) % 7)
        losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
        rows_N = (torch.arange(12) >= 5).long()
        return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N, rows_N=rows_N)

    def answers(self) -> list[Answer]:
        """What a model wrote to five prompts: right, nearly right, wrong, nothing, and something else than words."""
        pairs = [
            ("Blue.", "Blue."),
            ("The blue one", "blue one!"),
            ("Blue.", "No."),
            ("5", ""),
            ('{"a": 1}', '{"a": [1]}'),
        ]
        rows = [
            Example(origin=f"rows.jsonl:{line}", prompt="Which?", completion=expected)
            for line, (expected, _) in enumerate(pairs)
        ]
        return [
            Answer(example=row, expected=expected, given=given)
            for row, (expected, given) in zip(rows, pairs, strict=True)
        ]

    def counted(self, built: Measure, seen: slice = slice(None)) -> Tensor:
        """The statistics of what is seen of the predictions, or of the answers."""
        if built.answers is not None:
            return built.answers(self.answers()[seen])
        assert built.statistics is not None
        predictions = self.predictions()
        part = Predictions(
            logits_NV=predictions.logits_NV[seen],
            targets_N=predictions.targets_N[seen],
            losses_N=predictions.losses_N[seen],
            rows_N=None if predictions.rows_N is None else predictions.rows_N[seen],
        )
        return built.statistics(part)

    @override
    def outcome(self, built: Measure) -> Any:
        return built.value(self.counted(built))

    def test_it_looks_at_what_it_says(self, instance: Any) -> None:
        """At predictions, or at answers where `generates` says so: those are made for such metrics alone."""
        built = instance.build(self.context())
        assert (built.answers is not None) == instance.generates == (built.statistics is None)

    def test_statistics_are_float64_of_one_dimension(self, instance: Any) -> None:
        """A sum in float32 would stop counting at 2²⁴ tokens. Those that are joined have a dimension more."""
        import torch

        measure = instance.build(self.context())
        statistics = self.counted(measure)
        assert statistics.dtype == torch.float64, "float32 loses tokens from 2²⁴ on"
        assert statistics.ndim == (2 if measure.joined else 1)
        assert statistics.isfinite().all()

    @pytest.mark.parametrize("cut", [0, 5], ids=["none and all", "two parts"])
    def test_statistics_add_up(self, instance: Any, cut: int) -> None:
        """Those of two parts sum to those of the whole, and those of nothing are 0; joined, they are the whole's."""
        import torch

        measure = instance.build(self.context())
        first, second = self.counted(measure, slice(0, cut)), self.counted(measure, slice(cut, None))
        summed = torch.cat([first, second]) if measure.joined else first + second
        torch.testing.assert_close(summed, self.counted(measure), rtol=1e-6, atol=1e-9)

    def test_its_tables_are_tables(self, instance: Any) -> None:
        """Rows of one width, of text and numbers that JSON can hold."""
        measure = instance.build(self.context())
        if measure.details is not None:
            for title, rows in measure.details(self.counted(measure)).items():
                assert title and len({len(row) for row in rows}) == 1
                assert json.loads(json.dumps(rows, allow_nan=False)) == [list(row) for row in rows]

    def test_the_number_is_finite(self, instance: Any) -> None:
        """A float that can be compared."""
        value = self.outcome(instance.build(self.context()))
        assert isinstance(value, float) and math.isfinite(value)
