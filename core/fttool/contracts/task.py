"""What is learned, how it is scored, and how the model is measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fttool.contracts.rows import Example, Masking
from fttool.contracts.strategy import Context, Level, Levels, Place, Strategy

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What is learned by in one micro-batch, of the N tokens, words or rows that are learned."""

    losses_N: Tensor
    """Cross-entropy in nats, or the squared error of a number, float32. A task may give another loss while
    `model.training`: that is what is learned by, and metrics are measured in evaluation mode."""
    terms: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    """More to learn by, while `model.training`: scalars by name, each a mean over the micro-batch's tokens, learned or
    not and without padding. An update's term is the mean over all of its tokens; each has a key of its own in
    `metrics.jsonl`, beside `loss`."""


@dataclass(frozen=True, kw_only=True)
class Predictions(Losses):
    """What the model said of one micro-batch, of the N tokens, words or rows that are learned."""

    logits_NV: Tensor
    """Scores of the V tokens or classes, before the softmax; one column, V = 1, where numbers are learned."""
    targets_N: Tensor
    """Of tokens and classes (N,) their ids; where a row may have several classes, 0 or 1 for each of them, (N, V);
    where numbers are learned these, float32, beside logits (N, 1)."""
    rows_N: Tensor | None = None
    """Which sequence of the micro-batch each of the N is of, (N,), from 0 and not falling; given where a task learns
    several things of a row, for metrics that look at a row as a whole."""


@dataclass(frozen=True, kw_only=True)
class InParts:
    """How a task learns from a micro-batch in less memory than its `score` takes, which holds all logits at once."""

    learn: Callable[[PreTrainedModel, Mapping[str, Any], int], Losses]
    """Model, micro-batch and how many places have their logits held at once → the losses and terms of `score`."""
    places: Callable[[PreTrainedModel, int], int | None]
    """Model and tokens of the run's largest micro-batch → how many places that is to be; None where all may be."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A micro-batch that is learned from, for what learns from more of it than the task's score."""

    inputs: Mapping[str, Any]
    """What the task's `score` is given beside the model: `input_ids`, `labels` …"""
    rows: Sequence[int]
    """Numbers of its rows among all that are learned from. None where the micro-batch is computed on and not learned
    from, as each process has equally many of them."""
    update: int
    """Updates that were made before."""


@dataclass(frozen=True, kw_only=True)
class TaskContext(Context):
    """What a task gets."""

    label_counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Training rows of each class, by its name, or words where these have classes; empty where rows have none."""
    rows: int = 0
    """Training rows; 0 where none are read, as the model's class alone is wanted."""
    masking: Masking | None = None
    """How rows become tokens, for a task that is asked with texts of its own."""


def learned_tokens(batch: Mapping[str, Tensor]) -> int:
    """Labels of a micro-batch that are learned."""
    return int(batch["labels"].ne(-100).sum())


@dataclass(frozen=True, kw_only=True)
class TaskParts:
    """What a task yields: the model's class, a Trainer class, and how a micro-batch is scored."""

    model_class: Any
    """transformers' class that loads the model: `AutoModelForCausalLM` …"""
    trainer_class: type[Trainer]
    """The Trainer whose loop makes the run; core derives its own from it."""
    arguments_class: type[TrainingArguments]
    """The class of that Trainer's arguments."""
    arguments: Mapping[str, Any]
    """The task's own training arguments."""
    score: Callable[[PreTrainedModel, Mapping[str, Any]], Predictions]
    """Model and micro-batch → predictions; the loss of an update is the sum of its losses over the sum of `items`. What
    collation has made for the model's forward beside `input_ids`, it passes on."""
    causal: bool = True
    """Whether each loss depends on nothing but the tokens before the one that it is about; then a run proves it of its
    model before it trains. Say False where a token may see those after it, as in a masked language model, and where
    a whole row is told of."""
    reference: Callable[[PreTrainedModel, Mapping[str, Tensor]], Tensor] | None = None
    """Given where `score` takes a shortcut through the model: the logits of the same N places by the model's plain
    forward, (N, V). A run proves before its first update that both are the same."""
    in_parts: InParts | None = None
    """Given where micro-batches can be learned from part by part. That is done where they are large, each process
    holds all weights, and no regularizer looks at predictions. A run tries it first, and does without it where losses
    or gradients are not those of `score`."""
    without_shortcut: str = ""
    """What to set where they are not, as a hint to the user: `set task = {…}`."""
    items: Callable[[Mapping[str, Tensor]], int] = learned_tokens
    """Micro-batch → how many items it counts in the loss of its update; by default its learned tokens."""
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the model's outputs."""
    targets: Callable[[Sequence[tuple[str, ...]]], Tensor] | None = None
    """The classes of B rows → what `score` finds as `targets` in the micro-batch, (B,) or (B, C); of words (B, W), with
    −100 after the last word of a row, and the micro-batch has `words` (B, T): which of them each token is of, −1 for
    none. Raises `ValueError` with a sentence for a row that cannot be learned."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values for the model's configuration, e.g. `id2label`."""
    notes: Callable[[PreTrainedModel], Sequence[str]] | None = None
    """What is to be said of the loaded model, in the log and in `events.jsonl`."""
    fit: Callable[[PreTrainedModel, PreTrainedTokenizerBase], None] | None = None
    """Called once after loading: makes model and tokenizer agree where the task needs it."""
    answer: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Example, int], str] | None = None
    """Model, tokenizer, evaluation row and longest row in tokens → the model's answer in words, for the samples before
    and after; by default the model continues the prompt."""
    expected: Callable[[Example], str] | None = None
    """What the answer to an evaluation row should be, in words; by default the answer that it teaches."""
    try_it: str = 'generate {run} "your question"'
    """The verb and its words that the closing screen suggests."""


class Task(Strategy):
    """What is learned: the model class and the trainer."""

    family = "task"
    place = Place("task", default="sft")
    level: ClassVar[Levels] = "token"
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Keys of the recipe that are filled where it is silent, e.g. `{"masking": "label", "data.*.format": "labelled"}`;
    `*` stands for both kinds of datasets."""

    @property
    def learns(self) -> Level | None:
        """The level that the recipe's other strategies must serve: `level`, but for a task whose options decide it."""
        return self.level if isinstance(self.level, str) else None

    @classmethod
    def filled(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """`defaults`, but for a task whose options change them: these are as the recipe has them, not yet validated."""
        return cls.defaults

    @abstractmethod
    def build(self, ctx: TaskContext) -> TaskParts:
        """Yield the model class, the trainer class and the scoring function."""


@dataclass(frozen=True, kw_only=True)
class MetricContext(Context):
    """What a metric gets."""

    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the model's outputs; empty where tokens are learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model wrote of itself when it was asked the prompt of an evaluation row."""

    example: Example
    """The evaluation row."""
    expected: str
    """The answer that the row teaches."""
    given: str
    """The model's, greedy: at each place the likeliest token, as text without the token that ends it."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric as a pair of plain functions: statistics that add up over batches and ranks, and their number."""

    statistics: Callable[[Predictions], Tensor] | None = None
    """Predictions → a float64 tensor of fixed shape (K,)."""
    answers: Callable[[Sequence[Answer]], Tensor] | None = None
    """Given instead by a metric that `generates`: answers, or none of them → a float64 tensor of fixed shape (K,)."""
    value: Callable[[Tensor], float]
    """The sum of all statistics → the metric; NaN where there is none."""
    joined: bool = False
    """True for a number that sums cannot tell, such as a rank correlation: statistics are (n, K) then, and put one
    after the other, over batches and ranks, instead of added. They are held until the evaluation ends."""
    remark: Callable[[Tensor], str | None] = lambda _: None
    """All statistics → what is to be said of the number, above all why there is none."""
    details: Callable[[Tensor], Mapping[str, Sequence[Sequence[str | int | float]]]] | None = None
    """The sum of all statistics → tables by their titles, for `summary.json` and the closing screen: lists of rows of
    text and numbers, the first of them the heading."""


class Metric(Strategy):
    """A number that says how good the model is on the evaluation rows."""

    family = "metric"
    place = Place("evaluation.metrics", default="loss", many=True)
    level: ClassVar[Levels] = "token"

    greater_is_better: ClassVar[bool] = False
    """True where a higher number is a better one."""
    generates: ClassVar[bool] = False
    """True where it looks at what the model writes to prompts of evaluation rows, see `[evaluation.generate]`."""

    @abstractmethod
    def build(self, ctx: MetricContext) -> Measure:
        """Yield the pair of functions."""
