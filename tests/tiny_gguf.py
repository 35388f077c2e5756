"""A package that carries a small Llama as a GGUF file, quantized to 8 bits, as packages with real models do."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "carrier_of_a_tiny_gguf"
LAYERS, HIDDEN, INNER, HEADS, POSITIONS = 2, 32, 64, 2, 256
ALPHABET = [chr(byte) for byte in range(33, 127)]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
NORMAL, CONTROL = 1, 3
"""Of GGUF's kinds of tokens."""


def write_package(folder: Path) -> None:
    """Make the package in a folder that is on `sys.path`."""
    (folder / PACKAGE).mkdir()
    (folder / PACKAGE / "__init__.py").touch()
    write_model(folder / PACKAGE / "tiny.gguf")


def write_model(file: Path) -> None:
    """Random weights, the same each time, and a tokenizer of characters and one pair."""
    import gguf
    import numpy as np

    draw = np.random.default_rng(0)
    tokens = [*SPECIAL, *ALPHABET, "ab"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([*([CONTROL] * len(SPECIAL)), *([NORMAL] * (len(tokens) - len(SPECIAL)))])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}")

    def add(name: str, *shape: int) -> None:
        values = draw.normal(0, 0.1, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values + 1)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in (f"blk.{number}" for number in range(LAYERS)):
        add(f"{layer}.attn_norm.weight", HIDDEN)
        add(f"{layer}.ffn_norm.weight", HIDDEN)
        for part in ("q", "k", "v", "output"):
            add(f"{layer}.attn_{part}.weight", HIDDEN, HIDDEN)
        add(f"{layer}.ffn_gate.weight", INNER, HIDDEN)
        add(f"{layer}.ffn_up.weight", INNER, HIDDEN)
        add(f"{layer}.ffn_down.weight", HIDDEN, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
