"""The rows in micro-batches: those that are learned from, as mixing orders and batching groups them, and all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fttool.contracts.batches import Batches, BatchingContext, MixingContext
from fttool.contracts.task import TaskParts
from fttool.recipe.loaded import Loaded
from fttool.rows.rows import Rows
from fttool.rows.tokens import JoinedRows, TokenRows
from fttool.world import World
from fttool.yielded import CheckedBatches, built, checked_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from fttool.rows.loader import Batching, Planned


def make_batches(
    loaded: Loaded,
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    parts: TaskParts,
    model: PreTrainedModel,
    world: World,
) -> Batching:
    """This process's share of the training rows as mixing orders and batching groups them, and of all others."""
    from fttool.rows.loader import Batching, train_loader

    recipe, grouping = loaded.recipe, Grouping.of(loaded, tokenizer, parts, model)
    order = built(recipe.mixing, mixing_context(loaded, rows))
    grouped = grouping.build(rows.learned, recipe.micro_batch)
    batches, measured = grouping.checked(grouped, recipe.micro_batch), (rows.eval, *rows.retention.values())
    in_order = checked_order(recipe.mixing, order, len(rows.learned))
    loader = train_loader(rows.learned, in_order, batches, recipe.run.workers, world)

    def planned(dataset: TokenRows) -> Planned:
        return dataset, grouping.measuring(dataset).plan(range(len(dataset)), 0)

    return Batching(
        loader=loader,
        eval_batches=grouping.each_once(rows.eval, world),
        retention_batches={name: grouping.each_once(part, world) for name, part in rows.retention.items()},
        batches=batches,
        planned=lambda: [(rows.learned, loader.plan), *(planned(part) for part in measured if len(part))],
        built={"mixing": order, "batching": grouped},
    )


def mixing_context(loaded: Loaded, rows: Rows) -> MixingContext:
    """What mixing is told of the rows."""
    recipe = loaded.recipe
    general = rows.general if recipe.mixing.uses_general else {}
    return MixingContext(
        sizes=rows.train_sizes,
        tokens=rows.train_tokens,
        names=[dataset.dataset for dataset in recipe.data.train],
        general_sizes=[len(some) for some in general.values()],
        lengths=rows.learned.lengths,
        **loaded.common,
    )


@dataclass(frozen=True, slots=True)
class Grouping:
    """The recipe's batching over some rows."""

    loaded: Loaded
    parts: TaskParts
    pad_id: int
    attention: str

    @classmethod
    def of(
        cls, loaded: Loaded, tokenizer: PreTrainedTokenizerBase, parts: TaskParts, model: PreTrainedModel
    ) -> Grouping:
        """For the kind of attention that the model has."""
        pad_id: Any = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        attention = getattr(model.config, "_attn_implementation", None) or "eager"
        # Without either 0 is never seen: its labels are −100 and nothing attends to it.
        return cls(loaded, parts, pad_id if pad_id is not None else 0, attention)

    def build(self, dataset: TokenRows | JoinedRows, micro_batch: int) -> Batches:
        """What the strategy yields, as it is; it may have state."""
        context = BatchingContext(
            lengths=dataset.lengths,
            micro_batch=micro_batch,
            global_batch=max(micro_batch, self.loaded.recipe.global_batch),
            pad_id=self.pad_id,
            attention=self.attention,
            **self.loaded.common,
        )
        return built(self.loaded.recipe.batching, context)

    def checked(self, yielded: Batches, micro_batch: int) -> Batches:
        """The same, its plans and micro-batches looked at, with the classes of the rows where those are learned."""
        from fttool.rows.loader import WithTargets

        batches = CheckedBatches(self.loaded.recipe.batching, yielded, micro_batch)
        return batches if self.parts.targets is None else WithTargets(batches, self.parts.targets)

    def measuring(self, dataset: TokenRows) -> Batches:
        """For rows that are measured on."""
        micro_batch = self.loaded.recipe.evaluation.micro_batch or self.loaded.recipe.micro_batch
        return self.checked(self.build(dataset, micro_batch), micro_batch)

    def each_once(self, dataset: TokenRows, world: World) -> Callable[..., Any]:
        """This process's share of rows that are measured on, each once; takes the `track` of `eval_batches`."""
        from fttool.rows.loader import eval_batches

        return partial(eval_batches, dataset, self.measuring(dataset), world)
