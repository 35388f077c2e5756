"""`ewc`: weights that matter to what the model knew are held more tightly (elastic weight consolidation).

The penalty Σ_i (λ/2)·F_i(θ_i − θ*_i)² of Kirkpatrick et al. 2017 (arXiv 1612.00796), with F the diagonal of the Fisher
information on rows that represent what the model knew. Over several tasks F = γ·F_previous + F_new and θ* are the
weights after the latest, which is online EWC (Schwarz et al. 2018, arXiv 1805.06370).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import Problem, Pull, RecipeError, Regularization, Regularizer, RegularizerContext, did_you_mean
from fttool_plugins.regularizer import importance_file
from fttool_plugins.regularizer.pulled import Patterns, named, refuse_16_bits

if TYPE_CHECKING:
    from torch import Tensor

    from fttool.api import Recipe

FILE = "importance.safetensors"


class EWC(Regularizer):
    """Pulls each weight back to where it started by its importance F: the penalty Σ (λ/2)·F_i(θ_i − θ_i⁰)².

    F is the diagonal of the Fisher information on the rows of `[[data.general]]`: the squared gradient of each row's
    log-likelihood (summed over its labels), averaged over rows. It is found once, before the first update, in
    evaluation mode and float32, and stands in `importance.safetensors` in the run directory for other runs to use as
    `file`; `fttool importance` makes that file alone. F and the starting weights are held as optimizer state (8 bytes
    per parameter). Weights that the model's source does not give are not pulled. The pull comes after clipping and is
    not clipped.

    Under `fsdp` and `zero` each process finds F on its CPU, before the model is sharded: for a large one make the file
    beforehand.

    Use it where general rows can be had to find F on, but not to train on, or where F was published. Cost: 8 bytes
    per parameter that is pulled, about 1% of an update's time, and one forward and backward pass per example
    beforehand.
    """

    name: Literal["ewc"] = "ewc"
    strength: Annotated[float, Field(gt=0)]
    """λ in Σ (λ/2)·F_i(θ_i − θ_i⁰)²; the gradient is λF(θ − θ⁰). F may be small: look at the penalty that is logged."""
    fisher: Literal["true", "empirical"] = "true"
    """`true`: labels are sampled from the model, which is the Fisher information. `empirical`: they are the rows' own.
    With `file` it has no effect but in `fttool importance`, which makes that file."""
    examples: Annotated[int, Field(ge=1)] = 200
    """Rows that F is averaged over, sampled by the seed; each costs a forward and a backward pass. All where there are
    fewer. With `file` it has no effect but in `fttool importance`."""
    rows: Annotated[str, Field(min_length=1)] | None = None
    """Name of the general dataset; default: all of them."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """An importance file to use instead of computing F; relative to the recipe's folder."""
    previous: Annotated[str, Field(min_length=1)] | None = None
    """The importance file of earlier tasks, for F = γ·F_previous + F; relative to the recipe's folder."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 1.0
    """γ: what is kept of `previous`."""
    decoupled: bool = False
    """False: added to the gradient, as in the paper; Adam rescales it. True: θ −= lr·λF(θ − θ⁰), which must stay
    below θ − θ⁰ itself: keep lr·λF under 1."""
    parameters: Patterns = ("*",)
    """Which weights are pulled: shell patterns of names; default: all that train."""

    @override
    def check(self, recipe: Recipe) -> Iterable[Problem]:
        """Refuse 16-bit weights, adapters, nothing to compute F from, and options that contradict each other."""
        yield from refuse_16_bits(recipe, self.name)
        if recipe.freezing.adapts and recipe.task.level == "token":  # a classifier's own head trains beside it
            yield Problem(
                f"ewc pulls the model's own weights, and {recipe.freezing.id()} trains others",
                hint='leave ewc out, or train the weights themselves: freezing = "full"',
            )
        known = [dataset.dataset for dataset in recipe.data.general]
        if self.file is None and not known:
            yield Problem(
                "ewc needs rows that represent what the model knew",
                hint='add [[data.general]] with path = "rows.jsonl", or name an importance file: file = "…"',
            )
        elif self.rows is not None and self.rows not in known:
            yield Problem(f"no general dataset is called '{self.rows}'", hint=did_you_mean(self.rows, known))
        if self.file is not None and self.rows is not None:
            yield Problem("ewc reads F from file, and so computes nothing on rows", hint="take one of the two out")
        if self.previous is None and self.gamma != 1:
            yield Problem("ewc has a gamma, but no previous importance", hint='set previous = "…", or leave gamma out')
        computing = [other for other in recipe.regularizers if isinstance(other, EWC) and other.file is None]
        if len(computing) > 1 and computing[-1] is self:
            yield Problem(
                f"two ewc would write the same {FILE}",
                hint="compute one beforehand, fttool importance RECIPE -o FILE, and name it: file = …",
            )

    @override
    def check_files(self, recipe: Recipe, folder: Path) -> Iterable[Problem]:
        """Refuse importance files that are not there."""
        for option, named_file in (("file", self.file), ("previous", self.previous)):
            problem = importance_file.missing(folder / Path(named_file).expanduser()) if named_file else None
            if problem is not None:
                yield replace(problem, key=(option,))

    @property
    @override
    def uses_general(self) -> bool:
        """True where the importance is not read from a file."""
        return self.file is None

    @override
    def build(self, ctx: RegularizerContext) -> Regularization:
        """Yield a pull of coefficient λ and its importance; raises `RecipeError` for a file of another model."""
        pulled = (named(self.parameters, self.name, ctx) & ctx.trained) - ctx.new
        if not pulled:
            raise RecipeError(
                "ewc pulls pre-trained weights, and none of those that train are",
                hint="leave it out, or let other parameters train: [freezing], or its own parameters = […]",
            )
        file, previous = (
            ctx.folder / Path(option).expanduser() if option else None for option in (self.file, self.previous)
        )
        if file is not None:
            importance_file.check(file, ctx.model, pulled, same_weights=True)
        if previous is not None:
            importance_file.check(previous, ctx.model, pulled, same_weights=False)

        def importance() -> Mapping[str, Tensor]:
            fisher, notes = (
                self._computed(ctx, pulled) if file is None else importance_file.read(file, ctx.model, pulled)
            )
            if previous is not None:
                earlier, _ = importance_file.read(previous, ctx.model, pulled)
                for name, values in earlier.items():
                    fisher[name].add_(values, alpha=self.gamma)
                notes = {**notes, "previous": self.previous, "gamma": self.gamma}
            if ctx.writes and (file is None or previous is not None):
                importance_file.write(ctx.run_dir / FILE, fisher, notes)
            return fisher

        def coefficient(name: str) -> float:
            return self.strength if name in pulled else 0.0

        return Regularization(
            pulls=[Pull(coefficient=coefficient, decoupled=self.decoupled, importance=importance)],
            files={name: path for name, path in (("file", file), ("previous", previous)) if path is not None},
        )

    def _computed(self, ctx: RegularizerContext, pulled: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """F on the general rows, and notes on how it was found."""
        import torch

        from fttool_plugins.regularizer.fisher import NORMALISATION, diagonal_fisher

        rows = ctx.general(self.rows)
        chosen = random.Random(ctx.seed).sample(range(len(rows)), min(self.examples, len(rows)))
        parameters = {name: p for name, p in ctx.model.named_parameters() if name in pulled}
        generator = torch.Generator(ctx.model.device).manual_seed(ctx.seed) if self.fisher == "true" else None
        shown = ctx.track(chosen, f"weighing {len(pulled)} tensors on {len(chosen)} general rows")
        values, labels = diagonal_fisher(
            ctx.model, (rows[row] for row in shown), ctx.score, parameters, generator=generator
        )
        return values, {
            "kind": self.fisher,
            "examples": len(chosen),
            "labels": labels,
            "normalisation": NORMALISATION,
            "rows": self.rows or "all",
            "seed": ctx.seed,
            "weights": importance_file.fingerprint(parameters),
        }
