"""`classification`: texts into classes, with a head on a pre-trained encoder or decoder, on transformers' Trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag
from typing_extensions import override

from fttool.api import (
    DataError,
    Example,
    Level,
    Levels,
    Predictions,
    Problem,
    Recipe,
    RecipeError,
    Task,
    TaskContext,
    TaskParts,
    did_you_mean,
)
from fttool_plugins.task import classes, regression
from fttool_plugins.task.classifying import classify, in_words, reads_as_text
from fttool_plugins.task.heads import agree, of_a_head, row_logits, rows_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Weights: TypeAlias = Annotated[
    Annotated[Literal["none", "balanced"], Tag("word")]
    | Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1), Tag("table of weights")],
    Discriminator(lambda value: "table of weights" if isinstance(value, Mapping) else "word"),
]
"""A word or a table; told apart by hand, so that a mistake in one is not reported as a failure to be the other."""


class Classification(Task):
    """One class for each row, or several, or a number, by a head on `AutoModelForSequenceClassification`: BERT and its
    kin read it from their first token, decoders such as Llama from the last one of the text.

    The loss of an update is the mean cross-entropy of its rows, or the mean squared error of their numbers, whatever
    the accumulation. The names of the classes are saved in the model's configuration.
    """

    name: Literal["classification"] = "classification"
    level: ClassVar[Levels] = ("row", "number")
    # As BERT is fine-tuned (Devlin et al. 2019, arXiv 1810.04805, appendix A.3): batches of 16 or 32, 2 to 4 epochs,
    # rates of 2e-5 to 5e-5; and its positions end at 512.
    defaults: ClassVar[Mapping[str, Any]] = {
        "run.micro_batch": 16,
        "run.epochs": 3,
        "data.*.format": "labelled",
        "masking": "label",
        "batching.max_length": 512,
        "evaluation.metrics": ["accuracy", "macro-f1", "loss"],
    }
    kind: Literal["classes", "regression"] = "classes"
    """What is learned of a row: its classes, or under `regression` the number that is its label, by one output."""
    multi_label: bool = False
    """A row may have several classes or none, and each is decided for itself, at a probability of one half."""
    labels: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The classes in the order of the model's outputs; default: those of the training rows, by name or by value."""
    class_weights: Weights = "none"
    """How much the classes count in the training loss: each row alike, each class alike, or as a table of class and
    weight says (1 for the others). With `multi_label` it weighs rows that have a class against those that do not."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse repeated names, a single class, weights of what is not a class, and options for classes where numbers
        are learned.
        """
        if self.kind == "regression":
            yield from self._idle()
            return
        if self.labels is None:
            return
        twice = sorted({name for name in self.labels if self.labels.count(name) > 1})
        if twice:
            yield Problem(f"task.labels names {twice[0]!r} twice", hint="name it once", key=("task", "labels"))
        if len(self.labels) == 1 and not self.multi_label:
            message, hint = (
                "task.labels names a single class, with none to tell it from",
                "name the others, or leave it out",
            )
            yield Problem(message, hint=hint, key=("task", "labels"))
        yield from self._unknown(self.labels)

    @property
    @override
    def learns(self) -> Level | None:
        return "number" if self.kind == "regression" else "row"

    @classmethod
    @override
    def filled(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        if options.get("kind") != "regression":
            return cls.defaults
        return {**cls.defaults, "evaluation.metrics": ["pearson", "spearman", "mse"]}

    def _idle(self) -> Iterable[Problem]:
        for key, idle in (
            ("multi_label", self.multi_label),
            ("labels", self.labels is not None),
            ("class_weights", self.class_weights != "none"),
        ):
            if idle:
                message = f'task.{key} is for classes, and task.kind = "regression" learns numbers'
                yield Problem(message, hint="leave one of the two out", key=("task", key))

    @override
    def build(self, ctx: TaskContext) -> TaskParts:
        from transformers import AutoModelForSequenceClassification

        if self.kind == "regression":
            regression.refuse_constant(ctx)
            return of_a_head(
                AutoModelForSequenceClassification,
                score=regression.score,
                items=rows_of,
                targets=regression.targets,
                config=regression.CONFIGURATION,
                fit=agree,
                answer=partial(regression.answer, as_text=reads_as_text(ctx.masking)),
            )
        names = self._names(ctx)
        return of_a_head(
            AutoModelForSequenceClassification,
            score=partial(score, weights=self._weights(ctx, names)),
            items=rows_of,
            labels=names,
            targets=partial(classes.targets, names=names, multi_label=self.multi_label),
            config=configuration(names, multi_label=self.multi_label) if names else {},
            fit=agree,
            answer=partial(answer, as_text=reads_as_text(ctx.masking)),
        )

    def _names(self, ctx: TaskContext) -> tuple[str, ...]:
        """The classes in order; `DataError` where the rows do not have what there is to tell apart."""
        if not ctx.rows:
            return ()
        counts = ctx.label_counts
        if len(counts) == 1 and not self.multi_label:
            hint = "rows of one class teach nothing; is a part of the rows missing, or data.train.limit too low?"
            message = f"all training rows have the class {next(iter(counts))!r}"
            raise DataError(Problem(message, hint=hint, key=("data", "train")))
        if not counts:
            raise DataError(Problem("no training row has a class", hint="give some rows theirs", key=("data", "train")))
        if self.labels is None:
            return classes.in_order(list(counts))
        missing = [name for name in self.labels if name not in counts]
        others = [name for name in counts if name not in self.labels]
        if missing or others:
            what = f"names {missing[0]!r}, which no training row has" if missing else f"lacks the class {others[0]!r}"
            there = classes.in_order(list(counts))
            hint = did_you_mean(missing[0], there) if missing else f"the rows have {', '.join(there[:20])}"
            raise DataError(Problem(f"task.labels {what}", hint=hint, key=("task", "labels")))
        return self.labels

    def _weights(self, ctx: TaskContext, names: Sequence[str]) -> Sequence[float] | None:
        if self.class_weights == "none" or not names:
            return None
        if self.class_weights == "balanced":
            return classes.balanced(ctx.label_counts, names, ctx.rows, multi_label=self.multi_label)
        unknown = list(self._unknown(names))
        if unknown:
            raise RecipeError(unknown)
        return [self.class_weights.get(name, 1.0) for name in names]

    def _unknown(self, names: Sequence[str]) -> Iterable[Problem]:
        """Names in `class_weights` that are none of these."""
        for name in self.class_weights if isinstance(self.class_weights, Mapping) else ():
            if name not in names:
                message = f"task.class_weights names {name!r}, which is not a class"
                yield Problem(message, hint=did_you_mean(name, names), key=("task", "class_weights", name))


def configuration(names: Sequence[str], *, multi_label: bool) -> dict[str, Any]:
    """What transformers' configuration says of the classes."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }


def score(model: PreTrainedModel, batch: Mapping[str, Tensor], weights: Sequence[float] | None = None) -> Predictions:
    """Predictions of the N rows of a micro-batch; weights count while the model trains, so that what is measured does
    not depend on them.
    """
    import torch

    logits_NC = row_logits(model, batch)
    weights_C = torch.tensor(weights, device=logits_NC.device) if weights is not None and model.training else None
    losses_N = classes.losses(logits_NC, batch["targets"], weights_C)
    return Predictions(logits_NV=logits_NC, targets_N=batch["targets"], losses_N=losses_N)


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, *, as_text: bool
) -> str:
    """The classes of a row with their probabilities."""
    pair = (example.prompt, example.second)
    (probabilities,) = classify(model, tokenizer, [pair], max_length, as_text=as_text)
    return in_words(probabilities, multi_label=model.config.problem_type == "multi_label_classification")
