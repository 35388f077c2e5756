"""What strategies yield, looked at where it enters core: a factor that is NaN, or a function that is not there, would
come to light much later, or never.

Whatever is wrong is a `PluginError` that names what the strategy gave; `faults` adds its plugin and its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from operator import ne
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fttool.contracts.batches import Batches, RowGroup, RowOrder
from fttool.contracts.model import FreezingPlan, Source, TrainableUnit
from fttool.contracts.rows import Encoded, Example, Kept
from fttool.contracts.sharding import Numerics, ShardingPlan
from fttool.contracts.strategy import Strategy
from fttool.contracts.task import Losses, Measure, TaskParts
from fttool.contracts.update import Factor, OptimizerParts, Pull, Regularization
from fttool.errors import PluginError, Problem

if TYPE_CHECKING:
    from torch import Tensor

TELL = "tell the plugin's authors"


class Yield(NamedTuple):
    """What `build` of a family gives."""

    fits: Callable[[Any], bool]
    words: str


def _is(kind: type) -> Yield:
    return Yield(lambda value: isinstance(value, kind), f"a {kind.__name__}")


_FUNCTION = Yield(callable, "a function")
YIELDS: Mapping[str, Yield] = {
    "model": _is(Source),
    "reader": _FUNCTION,
    "format": _FUNCTION,
    "filter": _FUNCTION,
    "mixing": _FUNCTION,
    "masking": _FUNCTION,
    "batching": Yield(
        lambda found: callable(getattr(found, "plan", None)) and callable(getattr(found, "collate", None)),
        "an object with plan and collate",
    ),
    "freezing": _is(FreezingPlan),
    "layer_rates": _FUNCTION,
    "optimizer": _is(OptimizerParts),
    "schedule": _FUNCTION,
    "regularizer": _is(Regularization),
    "precision": _is(Numerics),
    "sharding": _is(ShardingPlan),
    "task": _is(TaskParts),
    "metric": _is(Measure),
}
"""By family."""
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "model": ("tokenizer", "model"),
    "task": ("score", "items"),
    "metric": ("value",),
    "sharding": ("prove",),
}
"""Fields of what a family's strategies yield that are functions, always."""


def misbehaved(strategy: Strategy, what: str, hint: str = TELL) -> PluginError:
    """The error of a strategy that gave what it must not: `what` goes on after its name."""
    error = PluginError(Problem(f"{strategy.family} '{strategy.id()}' {what}", hint=hint))
    error.by = strategy
    return error


def built(strategy: Any, context: Any) -> Any:
    """What the strategy's `build` gives, which is what its family says."""
    parts, wanted = strategy.build(context), YIELDS[strategy.family]
    if not wanted.fits(parts):
        raise misbehaved(strategy, f"yields {_shown(parts)} from build, not {wanted.words}")
    for name in FUNCTIONS.get(strategy.family, ()):
        if not callable(getattr(parts, name)):
            raise misbehaved(strategy, f"yields {name} = {_shown(getattr(parts, name))}, not a function")
    if isinstance(parts, OptimizerParts):
        _check_optimizer_class(strategy, parts)
    if isinstance(parts, Numerics):
        for name, known in (("autocast", ("no", "bf16", "fp16")), ("weights", ("float32", "bfloat16"))):
            if getattr(parts, name) not in known:
                raise misbehaved(
                    strategy, f"yields {name} = {getattr(parts, name)!r}; expected one of {', '.join(known)}"
                )
    if isinstance(parts, Measure):
        _check_measured(strategy, parts)
    if isinstance(parts, ShardingPlan) and parts.processes != strategy.world_size:
        what = f"plans {parts.processes!r} processes, and its launch says {strategy.world_size}"
        raise misbehaved(strategy, what)
    return parts


def checked_factor(strategy: Strategy, factor: Factor) -> Factor:
    """The schedule, whose factor is a finite number of at least 0: below 0 training would climb."""

    def checked(update: int) -> float:
        return _amount(strategy, factor(update), f"the factor of update {update + 1}")

    return checked


def check_factors(strategy: Strategy, factor: Factor, total: int) -> None:
    """Look at the factors of all updates of the run."""
    checked = checked_factor(strategy, factor)
    for update in range(total + 1):
        checked(update)


def checked_rate(strategy: Strategy, rate: Callable[[str], float]) -> Callable[[str], float]:
    """The layer rates, each a finite factor of at least 0."""
    return lambda name: _amount(strategy, rate(name), f"the rate of '{name}'")


def check_regularization(strategy: Strategy, regularization: Regularization, names: Iterable[str]) -> None:
    """Look at how strongly each parameter is pulled: a finite coefficient of at least 0."""
    for pull in regularization.pulls:
        if not isinstance(pull, Pull):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise misbehaved(strategy, f"yields {_shown(pull)} among its pulls, not a Pull")
        for name in names:
            _amount(strategy, pull.coefficient(name), f"the pull at '{name}'")


def checked_pull(strategy: Strategy, pull: Pull, known: Collection[str]) -> Pull:
    """The pull, whose importance is finite numbers of at least 0 for parameters that are `known`: below 0 it would push
    them away.
    """
    weigh = pull.importance
    if weigh is None:
        return pull

    def checked() -> Mapping[str, Tensor]:
        yielded: Any = weigh()
        if not isinstance(yielded, Mapping):
            raise misbehaved(strategy, f"gives {_shown(yielded)} as importance, not tensors by parameter")
        for name, importance in cast("Mapping[Any, Any]", yielded).items():
            if name not in known:
                raise misbehaved(strategy, f"weighs '{name}', which the model does not have")
            _check_importance(strategy, name, importance)
        return yielded

    return replace(pull, importance=checked)


def _check_importance(strategy: Strategy, name: str, importance: Any) -> None:
    import torch

    if not isinstance(importance, torch.Tensor) or not importance.is_floating_point():
        raise misbehaved(strategy, f"gives {_shown(importance)} as the importance of '{name}', not a tensor of floats")
    smallest, largest = (float(bound) for bound in importance.detach().aminmax()) if importance.numel() else (0.0, 0.0)
    if not 0 <= smallest <= largest < math.inf:
        worst = largest if smallest >= 0 else smallest
        raise misbehaved(strategy, f"gives {worst:g} as importance in '{name}'; it must be finite and at least 0")


def checked_keys(strategy: Strategy, keys: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
    """The optimizer's keys of a parameter's group, among which a rate is a finite number of at least 0."""

    def checked(name: str, *more: Any) -> Mapping[str, Any]:
        mapping: Any = keys(name, *more)
        if not isinstance(mapping, Mapping):
            raise misbehaved(strategy, f"gives {_shown(mapping)} as the keys of '{name}', not a mapping")
        for key in ("lr", "weight_decay"):
            if key in mapping:
                _amount(strategy, mapping[key], f"the {key} of '{name}'")
        return cast("Mapping[str, Any]", mapping)

    return checked


def check_freezing_plan(strategy: Strategy, plan: FreezingPlan, names: Iterable[str]) -> None:
    """Look at the units: parameters that the model has, each in one of them, and stretches of updates."""
    known, met = set(names), set[str]()
    for unit in plan.units:
        if not isinstance(unit, TrainableUnit):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise misbehaved(strategy, f"yields {_shown(unit)} among its units, not a TrainableUnit")
        strange, twice = sorted(unit.parameters - known), sorted(unit.parameters & met)
        if strange or twice:
            what = (
                f"unfreezes '{strange[0]}', which the model does not have"
                if strange
                else f"unfreezes '{twice[0]}' in two units"
            )
            raise misbehaved(strategy, what)
        stretches = cast("tuple[Any, ...]", unit.trains_in)
        if not all(isinstance(at, range) and at.start >= 0 and at.step == 1 for at in stretches):
            raise misbehaved(
                strategy, f"yields updates {unit.trains_in!r}; they must be ranges of update numbers from 0"
            )
        met |= unit.parameters


def check_optimizer(strategy: Strategy, optimizer: Any, groups: Sequence[Mapping[str, Any]]) -> None:
    """Look at the optimizer that was made: it holds the parameters that it was given, in their groups."""
    given, held = (
        [[id(p) for p in group["params"]] for group in group_list] for group_list in (groups, optimizer.param_groups)
    )
    if given != held:
        raise misbehaved(strategy, "yields an optimizer that does not hold the groups that it was given")


def check_verdicts(strategy: Strategy, verdicts: Any, examples: Sequence[Example]) -> None:
    """Look at a filter's verdicts: None, a reason, or the row in the form in which it is kept; one for each row."""
    if not isinstance(verdicts, Sequence) or len(verdicts) != len(examples):
        number = f"{len(verdicts)} answers" if isinstance(verdicts, Sequence) else _shown(verdicts)
        raise misbehaved(strategy, f"gave {number} for {len(examples)} rows")
    for index, verdict in enumerate(verdicts):
        if verdict is None or isinstance(verdict, str):
            continue
        reason: Any = getattr(verdict, "reason", None)
        if not isinstance(verdict, Kept) or not isinstance(reason, str):
            allowed = "None, a reason in words or Kept"
            raise misbehaved(strategy, f"gave {_shown(verdict)} as a verdict; it must be {allowed}")
        given: Any = verdict.example
        if given is not None and not (isinstance(given, Example) and given.origin == examples[index].origin):
            shown = f"the row of {given.origin}" if isinstance(given, Example) else _shown(given)
            raise misbehaved(strategy, f"gave {shown} in place of that of {examples[index].origin}")


def check_row(strategy: Strategy, row: Any, origin: str) -> None:
    """Look at a masked row: tokens, and labels that are the tokens' own or −100."""
    if not isinstance(row, Encoded):
        raise misbehaved(strategy, f"gave {_shown(row)}, not an Encoded ({origin})")
    if set(map(type, row.input_ids)) - {int} or min(row.input_ids, default=0) < 0:
        raise misbehaved(strategy, f"gave tokens that are not ids: integers from 0 on ({origin})")
    others = sum(map(ne, row.input_ids, row.labels))  # −100 is never a token's own
    if len(row.labels) != len(row.input_ids) or others != row.labels.count(-100):
        hint = "labels are not shifted, one per token"
        raise misbehaved(strategy, f"gave labels that are not the tokens' own or −100 ({origin})", hint)
    if row.words is not None:
        numbers = {number for number in row.words if number != -1}
        if len(row.words) != len(row.input_ids) or numbers != set(range(len(row.classes or ()))):
            hint = "words are one number per token, −1 or which of the classes it has, and each class has a token"
            raise misbehaved(strategy, f"gave words that do not go with its tokens and classes ({origin})", hint)


def checked_order(strategy: Strategy, order: RowOrder, size: int) -> RowOrder:
    """The mixing, whose epochs are indices of rows that there are, as many in each."""
    first = list[int]()

    def checked(epoch: int) -> Sequence[int]:
        rows = order(epoch)
        strange = next((row for row in rows if not isinstance(row, Integral)), None)
        if strange is not None:
            raise misbehaved(strategy, f"orders {_shown(strange)} in epoch {epoch}, which is not the number of a row")
        outside = next((row for row in rows if not 0 <= row < size), None)
        if outside is not None:
            raise misbehaved(strategy, f"orders row {outside} in epoch {epoch}, and there are {size}")
        first.append(len(rows)) if not first else None
        if len(rows) != first[0] or not first[0]:
            raise misbehaved(strategy, f"orders {len(rows)} rows in epoch {epoch}, and {first[0]} before")
        return rows

    return checked


@dataclass(frozen=True)
class CheckedBatches:
    """The batching, whose plan has each row of the order once, and whose tensors are of one shape."""

    strategy: Strategy
    batches: Batches
    micro_batch: int

    def plan(self, order: Sequence[int], epoch: int) -> list[list[RowGroup]]:
        """Those of `batches`."""
        plan = self.batches.plan(order, epoch)
        sizes = {len(micro_batch) for micro_batch in plan} - set(range(1, self.micro_batch + 1))
        if sizes:
            what = (
                f"plans a micro-batch of {sizes.pop()} sequences in epoch {epoch}; it may hold 1 to {self.micro_batch}"
            )
            raise misbehaved(self.strategy, what)
        planned = sorted(row for micro_batch in plan for group in micro_batch for row in group)
        if planned != sorted(order):
            strange = next(iter(sorted(set(planned) - set(order))), None)
            what = "does not plan each row of the order once" if strange is None else f"plans row {strange}"
            raise misbehaved(self.strategy, f"{what} in epoch {epoch}, of {len(order)} rows")
        return plan

    def collate(self, sequences: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
        """Those of `batches`."""
        import torch

        batch: Any = self.batches.collate(sequences)
        for name in ("input_ids", "labels"):
            tensor = batch.get(name) if isinstance(batch, dict) else None
            if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.long or tensor.ndim != 2:
                raise misbehaved(self.strategy, f"collates {name} that is not a (B, T) tensor of torch.long")
        if batch["labels"].shape != batch["input_ids"].shape:
            shapes = f"{tuple(batch['labels'].shape)} beside input_ids of {tuple(batch['input_ids'].shape)}"
            raise misbehaved(self.strategy, f"collates labels of shape {shapes}")
        learned = sum(label != -100 for rows in sequences for row in rows for label in row.labels[1:])
        own = batch["labels"] != -100
        if int(own.sum()) != learned:
            what = f"collates {int(own.sum())} labels of rows that have {learned} to learn"
            raise misbehaved(self.strategy, what, "a row's first token is not learned, and every other label is")
        if not torch.equal(batch["labels"][own], batch["input_ids"][own]):
            hint = "labels are not shifted: each is at its token's position"
            raise misbehaved(self.strategy, "collates labels that are not the tokens' own", hint)
        return batch


def check_losses(strategy: Strategy, given: Any, kind: type[Losses], items: int | None = None) -> None:
    """Look at what a task made of a micro-batch: a loss for each of its `items`, where they have been counted."""
    if not isinstance(given, kind) or given.losses_N.ndim != 1:
        what = f"losses of shape {tuple(given.losses_N.shape)}" if isinstance(given, kind) else _shown(given)
        raise misbehaved(strategy, f"scores a micro-batch with {what}, not with {kind.__name__} of losses (N,)")
    if items is not None and len(given.losses_N) != items:
        what = f"scores a micro-batch of {items} items with {len(given.losses_N)} losses"
        raise misbehaved(strategy, f"{what}: the loss of an update is their sum over the items")
    if str(given.losses_N.dtype) not in ("torch.float32", "torch.float64"):
        raise misbehaved(strategy, f"scores a micro-batch with losses of {given.losses_N.dtype}, not in float32")
    for name, term in given.terms.items():
        if getattr(term, "numel", lambda: 0)() != 1:
            raise misbehaved(strategy, f"gives {_shown(term)} as {name}, not one number")


def check_term(strategy: Strategy, term: Any, *, constant: bool) -> None:
    """Look at what a regularizer adds to a loss: one number, of weights that train; `constant` where none may just now
    be among them.
    """
    if getattr(term, "numel", lambda: 0)() != 1:
        raise misbehaved(strategy, f"adds {_shown(term)} to the loss, not one number")
    if hasattr(term, "full_tensor"):  # each process would learn its own weights by its own part of the labels
        hint = (
            "a penalty on weights is a pull (Regularization.pulls), which is shared as they are; or take a sharding "
            "that leaves each process all of them: `fttool plugins --family sharding`"
        )
        raise misbehaved(strategy, "adds a loss of weights of which each process holds a share", hint)
    if not term.requires_grad and not constant:
        raise misbehaved(strategy, f"adds {_shown(term)} to the loss, which depends on no weight that trains")


def checked_statistics(strategy: Strategy, measure: Measure) -> Measure:
    """The metric, whose statistics are as many numbers each time: others would be added up by chance."""
    lengths = list[int]()

    def checked(count: Callable[[Any], Any]) -> Callable[[Any], Tensor]:
        import torch

        dimensions, shape = (2, "(n, K)") if measure.joined else (1, "(K,)")

        def counted(seen: Any) -> Tensor:
            statistics: Any = count(seen)
            if (
                not isinstance(statistics, torch.Tensor)
                or statistics.ndim != dimensions
                or statistics.dtype != torch.float64
            ):
                given = (
                    f"a tensor {tuple(statistics.shape)} of {statistics.dtype}"
                    if hasattr(statistics, "dtype")
                    else _shown(statistics)
                )
                raise misbehaved(strategy, f"counts {given}, not statistics {shape} of float64")
            length = statistics.shape[-1]
            lengths.append(length) if not lengths else None
            if length != lengths[0]:
                raise misbehaved(strategy, f"counts {length} statistics in a micro-batch, and {lengths[0]} in another")
            return statistics

        return counted

    if measure.statistics is not None:
        return replace(measure, statistics=checked(measure.statistics))
    assert measure.answers is not None
    return replace(measure, answers=checked(measure.answers))


def check_measure(strategy: Strategy, measure: Any) -> None:
    """Look at a metric's value: a number, which need not be finite."""
    if not isinstance(measure, Real):
        raise misbehaved(strategy, f"measures {_shown(measure)}, not a number")


def _check_measured(strategy: Any, measure: Measure) -> None:
    """A metric looks at predictions or at answers, as it says beforehand: answers are made for those alone that do."""
    looks, other = ("answers", "statistics") if strategy.generates else ("statistics", "answers")
    if not callable(getattr(measure, looks)):
        raise misbehaved(strategy, f"yields {looks} = {_shown(getattr(measure, looks))}, not a function")
    if getattr(measure, other) is not None:
        raise misbehaved(strategy, f"yields {other}, and says generates = {strategy.generates}")


def _check_optimizer_class(strategy: Strategy, parts: OptimizerParts) -> None:
    import torch

    optimizer_class: Any = parts.optimizer_class
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, torch.optim.Optimizer)):
        raise misbehaved(
            strategy, f"yields {_shown(optimizer_class)} as its class, which is not a torch.optim.Optimizer"
        )


def _amount(strategy: Strategy, amount: Any, what: str) -> float:
    if isinstance(amount, bool) or not isinstance(amount, Real) or not 0 <= float(amount) < math.inf:
        raise misbehaved(strategy, f"gives {_shown(amount)} as {what}; it must be a finite number of at least 0")
    return float(amount)


def _shown(value: Any) -> str:
    """Something in few words."""
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
