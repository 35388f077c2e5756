"""`classification`: texts into classes, with a head on a pre-trained encoder or decoder, on transformers' Trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from fttool.api import (
    DataError,
    Example,
    Levels,
    ModelError,
    Predictions,
    Problem,
    Recipe,
    RecipeError,
    Task,
    TaskContext,
    TaskParts,
    did_you_mean,
)
from fttool_plugins.task import classes
from fttool_plugins.task.classifying import classify, in_words, reads_as_text

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Weights: TypeAlias = Annotated[
    Annotated[Literal["none", "balanced"], Tag("word")]
    | Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1), Tag("table of weights")],
    Discriminator(lambda value: "table of weights" if isinstance(value, Mapping) else "word"),
]
"""A word or a table; told apart by hand, so that a mistake in one is not reported as a failure to be the other."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What of a micro-batch the model sees."""
EOS = "<eos>"
"""What transformers says where a text does not end as the model needs it."""


class Classification(Task):
    """One class for each row, or several, by a head on `AutoModelForSequenceClassification`: BERT and its kin read it
    from their first token, decoders such as Llama from the last one of the text.

    The loss of an update is the mean cross-entropy of its rows, whatever the accumulation. The names of the classes are
    saved in the model's configuration.
    """

    name: Literal["classification"] = "classification"
    level: ClassVar[Levels] = "row"
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
    multi_label: bool = False
    """A row may have several classes or none, and each is decided for itself, at a probability of one half."""
    labels: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The classes in the order of the model's outputs; default: those of the training rows, by name or by value."""
    class_weights: Weights = "none"
    """How much the classes count in the training loss: each row alike, each class alike, or as a table of class and
    weight says (1 for the others). With `multi_label` it weighs rows that have a class against those that do not."""

    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Names that stand twice, or that are needed twice over, and weights of what is no class."""
        if self.labels is None:
            return
        twice = sorted({name for name in self.labels if self.labels.count(name) > 1})
        if twice:
            yield Problem(f"task.labels names {twice[0]!r} twice", hint="name it once", key=("task", "labels"))
        if len(self.labels) == 1 and not self.multi_label:
            message, hint = "task.labels names one class, and none to tell it from", "name the others, or leave it out"
            yield Problem(message, hint=hint, key=("task", "labels"))
        yield from self._unknown(self.labels)

    def build(self, ctx: TaskContext) -> TaskParts:
        """Yield `AutoModelForSequenceClassification`, `Trainer`, the names of the classes and the scoring function."""
        from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

        names = self._names(ctx)
        return TaskParts(
            model_class=AutoModelForSequenceClassification,
            trainer_class=Trainer,
            arguments_class=TrainingArguments,
            arguments={},
            causal=False,
            score=partial(score, weights=self._weights(ctx, names)),
            items=rows_of,
            labels=names,
            targets=partial(classes.targets, names=names, multi_label=self.multi_label),
            config=configuration(names, multi_label=self.multi_label) if names else {},
            fit=agree,
            answer=partial(answer, as_text=reads_as_text(ctx.masking)),
            try_it='predict {run} --text "your text"',
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
                message = f"task.class_weights names {name!r}, which is no class"
                yield Problem(message, hint=did_you_mean(name, names), key=("task", "class_weights", name))


def configuration(names: Sequence[str], *, multi_label: bool) -> dict[str, Any]:
    """What transformers' configuration says of the classes."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "multi_label_classification" if multi_label else "single_label_classification",
    }


def rows_of(batch: Mapping[str, Tensor]) -> int:
    """Rows of a micro-batch."""
    return len(batch["input_ids"])


def score(model: PreTrainedModel, batch: Mapping[str, Tensor], weights: Sequence[float] | None = None) -> Predictions:
    """Predictions of the N rows of a micro-batch; weights count while the model trains, so that what is measured does
    not depend on them.
    """
    import torch

    try:
        logits_NC = model(**{name: batch[name] for name in INPUTS if name in batch}).logits.float()
    except ValueError as fault:
        if EOS not in str(fault):
            raise
        message = f"the model reads a row at its last end-of-text token, and rows of a batch differ in those: {fault}"
        hint = "write no such token into a text, and give all rows a second text or none"
        raise DataError(Problem(message, hint=hint, key=("data", "train"))) from fault
    weights_C = torch.tensor(weights, device=logits_NC.device) if weights is not None and model.training else None
    losses_N = classes.losses(logits_NC, batch["targets"], weights_C)
    return Predictions(logits_NV=logits_NC, targets_N=batch["targets"], losses_N=losses_N)


def agree(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make model and tokenizer agree on where a text ends; `ModelError` for a tokenizer that marks no end for T5 or
    BART, which read a text there.
    """
    import torch

    set_padding(model, tokenizer)
    config: Any = model.config
    if config.is_encoder_decoder:
        try:
            with torch.no_grad():
                model(input_ids=torch.tensor([tokenizer("a")["input_ids"]], device=model.device))
        except ValueError as fault:
            if EOS not in str(fault):
                raise
            message = f"{type(model).__name__} reads a text at its end-of-text token, and the tokenizer adds none"
            hint = "take the model's own tokenizer, or let tokenizer.json add the token (post_processor)"
            raise ModelError(Problem(message, hint=hint, key=("model", "source"))) from fault


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let model and tokenizer pad alike, on the right: a decoder finds the end of a text by its padding.

    Without a padding token the end-of-text token serves, as a text does not hold it.
    """
    config: Any = model.config
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            hint = "name a pad_token in its tokenizer_config.json"
            message = "the tokenizer has neither a padding nor an end-of-text token"
            raise ModelError(Problem(message, hint=hint, key=("model", "source")))
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    for one in {id(c): c for c in (config, config.get_text_config())}.values():
        one.pad_token_id = tokenizer.pad_token_id


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, *, as_text: bool
) -> str:
    """The classes of a row with their probabilities."""
    pair = (example.prompt, example.second)
    (probabilities,) = classify(model, tokenizer, [pair], max_length, as_text=as_text)
    return in_words(probabilities, multi_label=model.config.problem_type == "multi_label_classification")
