"""A tokenizer, a model and rows that are as small as they can be and still are what a run sees.

The tokenizer has one token per printable ASCII character, so what it decodes is what it was given.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Encoded, Example
from fttool.contracts.task import Predictions

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>")
CHARACTERS = "\n\t " + string.ascii_letters + string.digits + string.punctuation
VOCABULARY = 128
"""Rows of the embedding: the 101 tokens and some to spare, as real models have."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer of characters with a ChatML template; `<|im_end|>` is its EOS, `<pad>` its padding."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    from fttool.rows.chat import CHATML

    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(**changes: Any) -> LlamaConfig:
    """Llama with hidden size 16, 2 layers, 2 heads, 128 tokens and 1,024 positions."""
    from transformers import LlamaConfig

    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "pad_token_id": SPECIAL.index("<pad>"),
        "bos_token_id": None,
        "eos_token_id": SPECIAL.index("<|im_end|>"),
        "tie_word_embeddings": False,
    }
    return LlamaConfig(**{**values, **changes})


def tiny_model(**changes: Any) -> LlamaForCausalLM:
    """A model of `tiny_config` in float32, the same random weights each time; the global random state is left alone."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(tiny_config(**changes))


def tiny_examples() -> list[Example]:
    """Rows of every shape: one turn and several, with a system message, prompt and completion, plain text, a double."""

    def turns(*contents: str, system: str = "") -> list[dict[str, str]]:
        spoken = [
            {"role": "assistant" if index % 2 else "user", "content": content} for index, content in enumerate(contents)
        ]
        return [{"role": "system", "content": system}, *spoken] if system else spoken

    conversations = [
        turns("What is 2 plus 3?", "5"),
        turns("Name a colour.", "Blue.", "And another?", "Green, or red."),
        turns("Where is it?", "See https://example.org/a for more.", system="Answer in one sentence."),
        turns("What is 2 plus 3?", "5"),
        turns("Say nothing new.", "word " * 40),
    ]
    rows = [
        Example(origin=f"tiny.jsonl:{line}", messages=tuple(messages), completion_from=len(messages) - 1)
        for line, messages in enumerate(conversations, start=1)
    ]
    plain = [
        Example(origin="tiny.jsonl:6", prompt="The sky is ", completion="blue."),
        Example(origin="tiny.jsonl:7", completion="A text that is learned from its first to its last word."),
    ]
    return [*rows, *plain]


def tiny_labelled() -> list[Example]:
    """Rows with classes: one, several or none, short and long, of one text and of two."""
    rows: list[tuple[str, str, tuple[str, ...]]] = [
        ("Win a prize!", "", ("spam",)),
        ("See you at noon.", "", ("ham",)),
        ("word " * 40, "", ("ham", "long")),
        ("Nothing applies.", "", ()),
        ("It rains.", "The street is wet.", ("entailment",)),
    ]
    return [
        Example(origin=f"tiny.jsonl:{line}", prompt=first, second=second, labels=labels)
        for line, (first, second, labels) in enumerate(rows, start=1)
    ]


def tiny_tagged() -> list[Example]:
    """Rows whose words have classes: short and long, with words of one letter and of many."""
    rows = [
        ("Anna Lee sings .", "B-PER I-PER O O"),
        ("x", "O"),
        ("word " * 39 + "Berlin", "O " * 39 + "B-LOC"),
        ("Lee met Constantinopolitan Anna", "B-PER O B-LOC B-PER"),
    ]
    examples: list[Example] = []
    for line, (text, labels) in enumerate(rows, start=1):
        words = tuple(match.span() for match in re.finditer(r"\S+", text))
        examples.append(Example(origin=f"tiny.jsonl:{line}", prompt=text, words=words, labels=tuple(labels.split())))
    return examples


def tiny_batch(rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """Rows padded on the right: `input_ids`, `labels`, `attention_mask`, each (B, T)."""
    import torch

    shape = (len(rows), max(len(row.input_ids) for row in rows))
    batch = {
        "input_ids": torch.full(shape, SPECIAL.index("<pad>")),
        "labels": torch.full(shape, -100),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
    }
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        batch["input_ids"][index, :length] = torch.tensor(row.input_ids)
        batch["labels"][index, 1:length] = torch.tensor(row.labels[1:])
        batch["attention_mask"][index, :length] = 1
    return batch


def tiny_score(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Predictions:
    """Next-token predictions at the learned places of a micro-batch, as a task's `score` yields them."""
    import torch.nn.functional as F

    inputs = {key: value for key, value in batch.items() if key != "labels"}
    targets_BT = F.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    learned_BT = targets_BT != -100
    logits_NV = model(**inputs).logits[learned_BT].float()
    targets_N = targets_BT[learned_BT]
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return Predictions(logits_NV=logits_NV, targets_N=targets_N, losses_N=losses_N)


def tiny_encoded() -> list[Encoded]:
    """Three rows of 5, 9 and 12 random tokens; the first half of each is a prompt."""
    import random

    draw = random.Random(0)
    rows: list[Encoded] = []
    for length in (5, 9, 12):
        ids = [draw.randrange(len(SPECIAL), len(SPECIAL) + len(CHARACTERS)) for _ in range(length)]
        rows.append(Encoded(ids, [-100] * (length // 2) + ids[length // 2 :]))
    return rows
