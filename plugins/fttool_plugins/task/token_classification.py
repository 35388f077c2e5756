"""`token-classification`: a tag for each word of a text, as for named entities, by a head on transformers' Trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import (
    DataError,
    Example,
    Levels,
    Predictions,
    Problem,
    Recipe,
    Task,
    TaskContext,
    TaskParts,
    did_you_mean,
)
from fttool_plugins.task import classes
from fttool_plugins.task.classifying import reads_as_text
from fttool_plugins.task.heads import INPUTS, of_a_head, set_padding
from fttool_plugins.task.tagging import in_words, tagged

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100
"""The target of no word."""


class TokenClassification(Task):
    """A tag for each word of a text, by a head on `AutoModelForTokenClassification`: entities, parts of speech and the
    like. An encoder sees the words on both sides of one; a decoder such as Llama those in front of it alone.

    The loss of an update is the mean cross-entropy of its words (of their tokens, with `pieces = "all"`), whatever the
    accumulation. What is measured, and predicted, is said by the first token of each word. The tags' names are saved in
    the model's configuration.
    """

    name: Literal["token-classification"] = "token-classification"
    level: ClassVar[Levels] = "word"
    # As BERT is fine-tuned for entities (Devlin et al. 2019, arXiv 1810.04805, section 5.3 and appendix A.3): the first
    # token of a word has its tag, batches of 16 or 32, 2 to 4 epochs, rates of 2e-5 to 5e-5.
    defaults: ClassVar[Mapping[str, Any]] = {
        "run.micro_batch": 16,
        "run.epochs": 3,
        "data.*.format": "tagged",
        "masking": "words",
        "batching.max_length": 512,
        "evaluation.metrics": ["entity-f1", "entity-precision", "entity-recall", "accuracy", "loss"],
    }
    labels: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """The tags in the order of the model's outputs, among them any that only evaluation rows have; default: those of
    the training rows, by name."""
    pieces: Literal["first", "all"] = "first"
    """Which tokens of a word learn its tag: the first one, or all of them, so that long words count more."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        twice = sorted({name for name in self.labels or () if (self.labels or ()).count(name) > 1})
        if twice:
            yield Problem(f"task.labels names {twice[0]!r} twice", hint="name it once", key=("task", "labels"))

    @override
    def build(self, ctx: TaskContext) -> TaskParts:
        from transformers import AutoModelForTokenClassification

        names = self._names(ctx)
        return of_a_head(
            AutoModelForTokenClassification,
            score=partial(score, every_piece=self.pieces == "all"),
            items=partial(items_of, every_piece=self.pieces == "all"),
            labels=names,
            targets=partial(targets, names=names),
            config=configuration(names) if names else {},
            fit=set_padding,
            answer=partial(answer, as_text=reads_as_text(ctx.masking)),
            expected=expected,
        )

    def _names(self, ctx: TaskContext) -> tuple[str, ...]:
        """The tags in order; `DataError` where the rows do not have what there is to tell apart."""
        if not ctx.rows:
            return ()
        counts = ctx.label_counts
        if len(counts) < 2:
            hint = "words of one tag teach nothing; is a part of the rows missing, or data.train.limit too low?"
            message = f"all words of the training rows have the tag {next(iter(counts), '')!r}"
            raise DataError(Problem(message, hint=hint, key=("data", "train")))
        if self.labels is None:
            return classes.in_order(list(counts))
        others = [name for name in counts if name not in self.labels]
        if others:
            hint = did_you_mean(others[0], self.labels)
            message = f"task.labels lacks the tag {others[0]!r}, which {counts[others[0]]:,} training words have"
            raise DataError(Problem(message, hint=hint, key=("task", "labels")))
        return self.labels


def configuration(names: Sequence[str]) -> dict[str, Any]:
    """What transformers' configuration says of the tags."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def targets(rows: Sequence[tuple[str, ...]], names: Sequence[str]) -> Tensor:
    """The number of each word's tag, (B, W), and −100 after the last word of a row.

    Raises `ValueError` for a row with a tag that is not among `names`.
    """
    import torch

    numbers = {name: number for number, name in enumerate(names)}
    targets_BW = torch.full((len(rows), max(map(len, rows), default=0)), IGNORED)
    for index, row in enumerate(rows):
        for name in row:
            if name not in numbers:
                known = did_you_mean(name, names)
                raise ValueError(f"no training row has the tag {name!r}; {known}, or name it in task.labels")
        targets_BW[index, : len(row)] = torch.tensor([numbers[name] for name in row], dtype=torch.long)
    return targets_BW


def speaking(words_BT: Tensor, *, every_piece: bool) -> Tensor:
    """(B, T): the tokens that speak for a word; of `words_BT`, which says of which word each token is, −1 for none."""
    if every_piece:
        return words_BT >= 0
    so_far_BT = words_BT.cummax(dim=1).values
    before_BT = so_far_BT.roll(1, dims=1)
    before_BT[:, 0] = -1
    return words_BT > before_BT


def items_of(batch: Mapping[str, Tensor], *, every_piece: bool) -> int:
    """Words of a micro-batch, or their tokens, where these are learned."""
    return int(speaking(batch["words"], every_piece=every_piece).sum())


def score(model: PreTrainedModel, batch: Mapping[str, Tensor], *, every_piece: bool = False) -> Predictions:
    """Predictions of the N words of a micro-batch by their first tokens; while the model trains with `every_piece`, of
    all tokens of them.
    """
    import torch.nn.functional as F

    logits_BTC = model(**{name: batch[name] for name in INPUTS if name in batch}).logits
    words_BT = batch["words"]
    rows_N, places_N = speaking(words_BT, every_piece=every_piece and model.training).nonzero(as_tuple=True)
    logits_NC = logits_BTC[rows_N, places_N].float()
    targets_N = batch["targets"][rows_N, words_BT[rows_N, places_N]]
    losses_N = F.cross_entropy(logits_NC, targets_N, reduction="none")
    return Predictions(logits_NV=logits_NC, targets_N=targets_N, losses_N=losses_N, rows_N=rows_N)


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int, *, as_text: bool
) -> str:
    """The entities that the model finds in a row."""
    (tags,) = tagged(model, tokenizer, [example], max_length, as_text=as_text)
    return in_words(example, tags)


def expected(example: Example) -> str:
    """The entities of a row."""
    return in_words(example, example.labels or ())
