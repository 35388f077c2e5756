"""A Llama with a byte-level tokenizer, written as a GGUF file by the `gguf` package alone: for llama.cpp to serve.

Names, the order of rotary halves and the metadata are those of llama.cpp's own `convert_hf_to_gguf.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
NORMAL, CONTROL = 1, 3
"""Kinds of tokens, as `gguf.TokenType` has them."""


def write_gguf(
    folder: Path, file: Path, *, quantization: str = "F32", ordinary: Sequence[int] = (), **changes: Any
) -> Path:
    """The model of a folder that `save_pretrained` has written; returns `file`.

    `quantization` is a name of `gguf.GGMLQuantizationType`, for matrices whose rows it fits; vectors stay float32.
    `changes` are metadata that stand beside or in the place of those of the folder: `{"tokenizer.chat_template": …}`;
    None leaves one out. Tokens of `ordinary` ids are no control tokens there, whatever they are in the folder.
    """
    import gguf

    kind = gguf.GGMLQuantizationType[quantization]
    writer = gguf.GGUFWriter(file, "llama")
    metadata = {**_architecture(folder, kind), **_tokenizer(folder, ordinary), **changes}
    for key, value in metadata.items():
        match value:
            case None:
                pass
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    for name, tensor in _tensors(folder):
        block = gguf.GGML_QUANT_SIZES[kind][0]
        if tensor.ndim == 1 or tensor.shape[-1] % block:
            writer.add_tensor(name, tensor)
        else:
            writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _architecture(folder: Path, kind: Any) -> dict[str, Any]:
    import gguf

    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    return {
        "general.file_type": int(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.name}", gguf.LlamaFileType.ALL_F32)),
        "llama.vocab_size": config["vocab_size"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.dimension_count": config.get("head_dim") or config["hidden_size"] // heads,
        "llama.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
    }


def _tokenizer(folder: Path, ordinary: Sequence[int]) -> dict[str, Any]:
    """Byte-level BPE that splits text as GPT-2 does."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    written = json.loads((folder / "tokenizer.json").read_text())
    special = {token["id"] for token in written["added_tokens"] if token["special"]} - {*ordinary}
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    names: dict[int, str] = {index: token for token, index in tokenizer.get_vocab().items()}
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [names.get(index, f"[PAD{index}]") for index in range(size)],
        "tokenizer.ggml.token_type": [CONTROL if index in special else NORMAL for index in range(size)],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in written["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.add_bos_token": tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id],
        "tokenizer.chat_template": tokenizer.chat_template,
    }
    if tokenizer.bos_token_id is not None:
        found["tokenizer.ggml.bos_token_id"] = tokenizer.bos_token_id
    return found


def _tensors(folder: Path) -> list[tuple[str, Any]]:
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(str(folder), dtype="float32")
    config = model.config
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found: list[tuple[str, Any]] = []
    for name, weight in model.state_dict().items():
        stem, _, part = name.rpartition(".")
        array = weight.numpy()
        if stem in OUTSIDE:
            found.append((f"{OUTSIDE[stem]}.{part}", array))
            continue
        _, _, layer, inner = stem.split(".", 3)
        if (count := heads.get(inner.rpartition(".")[2])) is not None:
            array = _interleaved(array, count)
        found.append((f"blk.{layer}.{LAYER[inner]}.{part}", np.ascontiguousarray(array)))
    return found


def _interleaved(weight: Any, heads: int) -> Any:
    """Rows of a projection in the order in which llama.cpp rotates them: neighbours, where transformers has halves."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
