"""Writes all that the pre-training of `builtin:tiny-chat` reads: text, conversations, tokenizer and architecture.

    python recipes/tiny_chat/prepare.py --out recipes/tiny_chat/build

The same Python writes the same bytes. `README.md` beside this file tells where the text comes from.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from questions import conversations
from rows import write_rows
from stdlib_docs import Documented, documented, topics
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHUNK = 720
"""Longest row of text, in characters: about 230 tokens, so that a sequence of 256 holds it whole."""
REPEATED = 80
"""Paragraphs of at least this many characters are kept once; the reference repeats whole sections."""
VOCABULARY = 2_048
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
"""One token ends a turn and a text alike, so whatever generates text stops at the same token."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

ARCHITECTURE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 160,
    "intermediate_size": 416,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.05,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "dtype": "float32",
}
"""Head and embedding are apart, so that freezing all but the head means something. 1.7 million parameters."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--modules", default="", help="only these top-level modules, e.g. json,heapq (for tests)")
    options = parser.parse_args(arguments)
    modules = [name for name in options.modules.split(",") if name]

    things = documented(modules)
    if not things:
        parser.error(f"--modules {options.modules}: none of these has a documentation string in this Python")
    reference = {} if modules else topics()
    texts = list(text_rows(things, reference))
    chats = conversations(things, reference)
    tokenizer = train_tokenizer([*texts, *(m["content"] for chat in chats for m in chat["messages"])])

    options.out.mkdir(parents=True, exist_ok=True)
    write_rows(options.out / "text.jsonl", ({"text": text} for text in texts))
    write_rows(options.out / "chat.jsonl", chats)
    tokenizer.save_pretrained(options.out / "tokenizer")
    write_json(options.out / "config.json", architecture(tokenizer))
    tokens = sum(len(ids) + 1 for ids in tokenizer(texts)["input_ids"])
    print(
        f"{len(texts)} texts of {tokens} tokens, {len(chats)} conversations, {len(tokenizer)} words in the vocabulary"
    )


def text_rows(things: Iterable[Documented], reference: Mapping[str, str]) -> Iterator[str]:
    """Each documentation string under its signature, then the language reference, in chunks of at most `CHUNK`."""
    seen: set[str] = set()
    for thing in things:
        heading = thing.signature if thing.kind in ("function", "method") else f"{thing.kind} {thing.signature}"
        for chunk in chunks(unseen(paragraphs(thing.doc), seen), CHUNK - len(heading) - 2):
            if chunk not in seen:  # short ones too: "Return self>value." once is enough
                seen.add(chunk)
                yield f"{heading}\n\n{chunk}"
    for text in reference.values():
        yield from chunks(unseen(paragraphs(text), seen), CHUNK)


def paragraphs(text: str) -> list[str]:
    """Cut at blank lines; a paragraph longer than half a chunk is cut at its lines."""
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        block = ""
        for line in paragraph.splitlines():
            if block and len(block) + len(line) > CHUNK // 2:
                parts.append(block)
                block = ""
            block += ("\n" if block else "") + line
        parts.append(block)
    return [part for part in parts if part.strip()]


def unseen(parts: Iterable[str], seen: set[str]) -> Iterator[str]:
    """The parts without the long ones that stood earlier."""
    for part in parts:
        if len(part) < REPEATED:
            yield part
        elif part not in seen:
            seen.add(part)
            yield part


def chunks(parts: Iterable[str], size: int) -> Iterator[str]:
    """Whole paragraphs, joined by blank lines, up to `size` characters."""
    chunk = ""
    for part in parts:
        if chunk and len(chunk) + 2 + len(part) > size:
            yield chunk
            chunk = ""
        chunk += ("\n\n" if chunk else "") + part
    if chunk:
        yield chunk


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE: any text goes in and comes out unchanged, as all 256 bytes are in the vocabulary."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=ARCHITECTURE["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def architecture(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """`config.json` of a model with random weights that fits the tokenizer."""
    return ARCHITECTURE | {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A file for people too."""
    path.write_bytes(f"{json.dumps(value, indent=2)}\n".encode())


if __name__ == "__main__":
    main()
