"""`discriminative`: the lower a layer, the lower its rate (Howard & Ruder 2018, arXiv 1801.06146).

Layer i of L (from 0, the lowest) has factor d^(L−1−i), so the top layer has 1; the final norm and the head have 1;
the embeddings have d^L.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from fttool.api import LayerRates, LayerRatesContext, Layers, ModelError, Problem


def factors(layers: Layers, decay: float) -> dict[str, float]:
    """The factor of each parameter."""
    depth = len(layers.blocks)
    parts = [
        (layers.embeddings, decay**depth),
        *((block, decay ** (depth - 1 - layer)) for layer, block in enumerate(layers.blocks)),
        (layers.final, 1.0),
        (layers.head, 1.0),
    ]
    return {name: factor for names, factor in parts for name in names}


class Discriminative(LayerRates):
    """The rate falls by the factor `decay` from each layer to the one below it (arXiv 1801.06146).

    | part | factor | L = 4, decay 0.95 | L = 4, decay 0.3846 | L = 32, decay 0.95 |
    |---|---|---|---|---|
    | head, final norm | 1 | 1 | 1 | 1 |
    | top layer, L − 1 | 1 | 1 | 1 | 1 |
    | layer i of L, from 0 | decay^(L − 1 − i) | 0.95, 0.9025 | 0.3846, 0.1479 | 0.95 … 0.2146 |
    | lowest layer, 0 | decay^(L − 1) | 0.8574 | 0.0569 | 0.2039 |
    | embeddings | decay^L | 0.8145 | 0.0219 | 0.1937 |

    Other programs count the head as one layer more, which makes every factor but the head's smaller by one `decay`. A
    head that shares the input embeddings has their factor. In an encoder-decoder the decoder stands on the encoder. A
    schedule's `min_lr` falls by the same factors.

    Use it to keep what lower layers know while upper ones adapt. Cost: nothing but more parameter groups.
    """

    name: Literal["discriminative"] = "discriminative"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Rate of a layer over that of the layer above it; 0.3846 is ULMFiT's 1/2.6, meant for four layers."""

    @override
    def build(self, ctx: LayerRatesContext) -> Callable[[str], float]:
        """Yield the factors; raises `ModelError` for a model without a stack of layers."""
        if not ctx.layers.blocks:
            message = f"layer_rates 'discriminative' counts layers, and {type(ctx.model).__name__} has no stack of them"
            raise ModelError(Problem(message, key=("layer_rates",), hint='set layer_rates = "uniform"'))
        return factors(ctx.layers, self.decay).__getitem__
