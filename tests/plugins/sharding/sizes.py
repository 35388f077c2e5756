"""Which sharding `auto` takes for which model on which cluster: the table of docs/scale.md, made from the strategy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from fttool.api import Memory, ShardingContext
from fttool.contracts.layers import layers
from fttool.training.memory import estimate
from fttool_plugins.sharding.auto import Auto

TOKENS = 4096
"""Of a micro-batch, all learned."""

# name: hidden size, layers, MLP, heads, heads of keys and values, vocabulary, tied; all as Llamas
MODELS = {
    "135M (SmolLM2)": (576, 30, 1536, 9, 3, 49152, True),
    "0.5B (Qwen2.5)": (896, 24, 4864, 14, 2, 151936, True),
    "1.2B (Llama 3.2)": (2048, 16, 8192, 32, 8, 128256, True),
    "3.2B (Llama 3.2)": (3072, 28, 8192, 24, 8, 128256, True),
    "8B (Llama 3.1)": (4096, 32, 14336, 32, 8, 128256, False),
    "14B (Qwen2.5)": (5120, 48, 13824, 40, 8, 152064, False),
    "32B (Qwen2.5)": (5120, 64, 27648, 40, 8, 152064, False),
    "70B (Llama 3.1)": (8192, 80, 28672, 64, 8, 128256, False),
}
CLUSTERS = {"1 × 24": (1, 24), "1 × 80": (1, 80), "8 × 24": (8, 24), "8 × 80": (8, 80), "64 × 80": (64, 80)}
"""GPUs, and GiB of each."""
SHORT = {
    "fsdp (reshard_after_forward = false)": "fsdp-2",
    "fsdp": "fsdp-3",
    "fsdp (cpu_offload = true)": "offload",
}


def table() -> str:
    """As Markdown."""
    lines = [["model", *CLUSTERS], ["---"] * (1 + len(CLUSTERS))]
    for name, shape in MODELS.items():
        memory = _memory(*shape)
        whole = f"{memory().total / 2**30:,.0f}"
        lines.append([f"{name}, {whole} GiB", *(_choice(*cluster, memory) for cluster in CLUSTERS.values())])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _choice(processes: int, memory_gb: int, memory: Callable[[], Memory]) -> str:
    auto = Auto(processes=processes, memory_gb=memory_gb)
    reason = auto.build(ShardingContext(device=torch.device("cuda"), memory=memory)).reason
    label = reason.partition(", ")[0]
    return "–" if "may not fit" in reason else SHORT.get(label, label)


def _memory(
    hidden: int, depth: int, mlp: int, heads: int, kv_heads: int, vocabulary: int, tied: bool
) -> Callable[[], Memory]:
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=depth,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = estimate(
        model,
        layers(model),
        optimizer=torch.optim.AdamW,
        groups=[{"params": list(model.parameters())}],
        tokens=TOKENS,
        learned=TOKENS,
        recomputed=True,
        half=True,
        device=0,
    )
    return lambda: found
