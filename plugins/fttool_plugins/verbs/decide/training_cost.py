"""What one training costs: as given, or as `fttool estimate` says of the recipe."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from fttool.api import UsageError
from fttool.verbs import Loaded
from fttool_plugins.verbs.estimate.price import Span


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Dollars, from–to, and where they come from."""

    dollars: Span
    source: str


def training_cost(options: argparse.Namespace, loaded: Loaded | None) -> TrainingCost:
    """`UsageError` where it is neither given nor can be estimated."""
    if options.training is not None:
        low, high = options.training
        return TrainingCost(Span(low, (low + high) / 2, high), "as given")
    is_recipe = loaded is not None and options.recipe.suffix == ".toml"
    if loaded is None or not is_recipe or not (options.gpus or options.price):
        hint = "say it: --training 100-1000" + ("; or let it be estimated: --gpus h100:1" if is_recipe else "")
        raise UsageError("what training costs is not known", hint=hint)
    return _estimated(options, loaded)


def _estimated(options: argparse.Namespace, loaded: Loaded) -> TrainingCost:
    from fttool_plugins.verbs.estimate import gpus_in
    from fttool_plugins.verbs.estimate.estimating import elsewhere, here

    asked = argparse.Namespace(
        quiet=options.quiet or options.json,
        price=options.price,
        rows=None,
        row_tokens=None,
        learned=1.0,
        updates=5,
        token_price=None,
    )
    result = elsewhere(loaded, [gpus_in(options.gpus)], asked) if options.gpus else here(loaded, asked)
    place = result.places[0]
    if place.dollars is None:
        raise UsageError(f"no price is known of {place.name}", hint="say that of an hour: --price 2.50")
    where = f"{place.gpus} × {place.name}" if place.name != "here" else "this machine"
    return TrainingCost(place.dollars, f"estimated for {where}, {place.source}")
