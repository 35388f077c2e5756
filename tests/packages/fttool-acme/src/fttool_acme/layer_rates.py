"""`acme.slow-embeddings`: tables of many rows, of which few are seen, learn more slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from fttool.api import LayerRates, LayerRatesContext


class SlowEmbeddings(LayerRates):
    """Embeddings and head train at a fraction of the rate, all layers between them at the whole of it.

    Of a vocabulary a fine-tuning set uses a small part, and those rows drift away from the rest; a rate of a half to
    a tenth is usual for continued pre-training. A head that shares its weights with the embeddings has their factor.
    """

    name: Literal["acme.slow-embeddings"] = "acme.slow-embeddings"
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Rate of embeddings and head over that of the layers."""

    def build(self, ctx: LayerRatesContext) -> Callable[[str], float]:
        """Yield the factor of a parameter."""
        slow = frozenset((*ctx.layers.embeddings, *ctx.layers.head))
        return lambda parameter: self.factor if parameter in slow else 1.0
