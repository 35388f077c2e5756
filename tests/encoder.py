"""A tokenizer of words as encoders have it, with `[CLS]` and `[SEP]` around a text, and a tiny BERT to go with it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgxyz", *map(str, range(24))]


def tokenizer(special: bool = True) -> PreTrainedTokenizerFast:
    """Words are separated by spaces; without `special`, nothing stands around them or between two texts."""
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Replace("~", "")  # BERT's own drops control characters
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"] if special else ["input_ids"],
    )


def save_encoder(folder: Path) -> Path:
    """A tiny random BERT without a head, and the tokenizer, as a folder."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
