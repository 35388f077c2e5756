"""Every causal language model of transformers that can be made tiny, and what a run's proof says of it.

`python tests/causal.py` writes `docs/architectures.md`; a test holds the page to it, and the proof to a naive twin.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fttool.contracts.rows import Encoded
from fttool.proof.assumptions import Assumed, Shape, comparisons
from fttool.proof.probe import Probe
from fttool.training.proof import prove
from fttool_plugins.batching import collate
from fttool_plugins.task.sft import score

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
LARGEST = 20_000_000
"""Parameters; what cannot be made smaller is not tried."""

SMALL: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GROUPED: dict[str, Any] = {"n_group": 1, "topk_group": 1}
INDEXED: dict[str, Any] = {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 64}
MAMBA: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 8}
LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 16,
    "head_dim": 8,
}
ZAMBA: dict[str, Any] = {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "mamba"]}

MORE: Mapping[str, dict[str, Any]] = {
    "axk2": {"num_key_value_heads": 4},
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4},
    "deepseek_v2": {**LATENT, **ROUTED, **GROUPED},
    "deepseek_v3": {**LATENT, **ROUTED, **GROUPED, "first_k_dense_replace": 1},
    "deepseek_v32": {**LATENT, **ROUTED, **GROUPED, **INDEXED, "first_k_dense_replace": 1},
    "dots1": {
        **ROUTED,
        **GROUPED,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64, "mamba_chunk_size": 16, "head_dim": 8},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 99,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
        "head_dim": 8,
        "activation_sparsity_pattern": [0.0, 0.0],
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gemma4_text": {"vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 8, "head_dim": 8},
    "glm4_moe_lite": {"num_key_value_heads": 4},
    "glm_moe_dsa": {**LATENT, **ROUTED, **INDEXED},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_heads": 4, "num_layers": 2, "window_size": 16},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {
        **MAMBA,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    "hy_v3": {**EXPERTS, "head_dim": 8, "expert_hidden_dim": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {**EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {
        **LATENT,
        "num_layers": 2,
        "n_routed_experts": 4,
        "zero_expert_num": 2,
        "moe_topk": 2,
        "expert_ffn_hidden_size": 16,
        "ffn_hidden_size": 64,
        "head_dim": 8,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 8, "chunk_size": 16},
    "mimo_v2_flash": {**ROUTED, "head_dim": 8, "v_head_dim": 8},
    "minicpm3": LATENT,
    "ministral": {"head_dim": 8},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "plbart": {
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 64,
        "encoder_ffn_dim": 64,
    },
    "qwen3_5_moe_text": {**EXPERTS, **LINEAR},
    "qwen3_5_text": LINEAR,
    "qwen3_next": {**EXPERTS, **LINEAR},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": 8,
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 16,
    },
    "solar_open": {**ROUTED, "head_dim": 8},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "youtu": LATENT,
    "zamba2": {**ZAMBA, "mamba_headdim": 8, "mamba_ngroups": 1, "mamba_d_state": 8},
}

RIGHT = "yes"
WORDS = {
    "later": "no: it sees the tokens that it is to predict",
    "beside": "no: rows of a micro-batch see each other",
    "padded": "no: padding changes a row",
    "neighbours": "no: rows see each other",
    "packed": "no: a row is another one than alone",
    "longest": "no: tokens far from each other mix",
}
Collate = Callable[[Sequence[Sequence[Encoded]], int], Any]


def kinds() -> list[str]:
    """The architectures that `AutoModelForCausalLM` knows."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_causal(kind: str) -> Any:
    """A random model of the architecture in evaluation mode; raises whatever a configuration so small meets."""
    config = AutoConfig.for_model(kind, **SMALL | MORE.get(kind, {}))
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def drawn(seed: int, *lengths: int) -> list[Encoded]:
    """Rows of random tokens, all of which are learned."""
    draw = random.Random(seed)
    every = [[draw.randrange(3, 97) for _ in range(length)] for length in lengths]
    return [Encoded(ids, list(ids)) for ids in every]


def verdict(model: Any, collated: Collate, rows_in_one: int) -> str:
    """What the proof of a run in these batches says of a model, in a few words."""
    rows = drawn(0, 48, 40, 30, 20)
    probe = Probe(
        model=model,
        score=score,
        collate=lambda sequences: collated(sequences, 0),
        rows=rows,
        lengths=[len(row.input_ids) for row in rows],
        positions=SMALL["max_position_embeddings"],
        device=torch.device("cpu"),
    )
    shape = Shape(sequences=2, rows=rows_in_one, longest=rows[:rows_in_one])
    assumed = Assumed(level="token", causal=True, shape=shape, formats=frozenset({torch.float32}))
    proven = prove(model, torch.device("cpu"), [lambda: comparisons(probe, assumed)])
    broken = [one for one in proven.findings if not one.holds]
    if not broken:
        return RIGHT
    if broken[0].difference == float("inf"):
        return "no: it cannot compute them"
    return WORDS[broken[0].name]


@cache
def verdicts(kind: str) -> tuple[str, str]:
    """Of padded and of packed rows; raises where the architecture cannot be made tiny, or computes no row at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = tiny_causal(kind)
        with torch.no_grad():
            model(input_ids=torch.arange(3, 20)[None], use_cache=False)
        return verdict(model, collate.padded, 1), verdict(model, collate.packed, 3)


def table() -> dict[str, tuple[str, str] | None]:
    """The verdicts on each architecture; None where it cannot be made tiny."""
    found: dict[str, tuple[str, str] | None] = {}
    for kind in kinds():
        try:
            found[kind] = verdicts(kind)
        except Exception:
            found[kind] = None
    return found


BEFORE = """\
<!-- the tables are made by tests/causal.py -->

# Which architectures may be packed

Before its first update, and in `--dry-run`, a run tries out on its own model what its batches assume ([ADR
10](adr/0010-what-batches-assume-is-proven-on-the-model.md)): that no token is seen before its turn, that padding
changes no row, and that packed rows do not see each other. If one of these does not hold, the run is refused, with a
hint what to choose instead (exit code 5). So you never have to look anything up here; this page says beforehand what
to expect.

A tiny model with random weights was made of each architecture that `AutoModelForCausalLM` of transformers {version}
knows, with the attention that it uses by default on a CPU, and tested as a run with `task = "sft"` tests it. *Packed*
means several rows in a sequence, kept apart by position ids, as `batching = "packed"` does it. With flash-attention
and similar kernels, rows are kept apart by their lengths instead, which works for many models that ignore position
ids; since it needs a GPU, it is not in this table. The run's own test covers it, though.

Models that carry a state from token to token (Mamba, RWKV, linear attention, short convolutions) carry it into the
next row, and older models build their masks without looking at positions. Encoders look ahead unless their
configuration says `is_decoder`; use `task = "classification"` for them. Rows that cannot be packed can be padded:
with `batching = "bucketed"`, padding is a few percent.
"""


def page(found: Mapping[str, tuple[str, str] | None]) -> str:
    """The page of the docs."""
    made = {kind: said for kind, said in found.items() if said is not None}
    right = [kind for kind, said in made.items() if said == (RIGHT, RIGHT)]
    lines = [
        BEFORE.format(version=transformers.__version__),
        f"## Padded and packed: {len(right)}",
        "",
        ", ".join(f"`{kind}`" for kind in right),
        "",
        f"## Refused: {len(made) - len(right)}",
        "",
        "| architecture | padded | packed |",
        "|---|---|---|",
        *(f"| `{kind}` | {padded} | {packed} |" for kind, (padded, packed) in made.items() if kind not in right),
        "",
        f"## Not tried: {len(found) - len(made)}",
        "",
        "They take other inputs beside text, or cannot be made tiny by their configuration alone:",
        ", ".join(f"`{kind}`" for kind in found if kind not in made),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    PAGE.write_text(page(table()), encoding="utf-8")
