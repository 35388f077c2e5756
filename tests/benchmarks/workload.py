"""What the benchmarks train on: a small Llama with random weights and rows of random words, made on the spot.

The model is small enough for a CPU, and its head has the share of the compute that it has in small real models (29%
of the multiplications of a forward pass; SmolLM2-135M 21%, Qwen2.5-0.5B 28%). A word is a token, so lengths are exact.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

VOCABULARY = 8192
SPECIAL = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "user", "assistant")
PAD_ID, END_ID = 0, 3

HIDDEN, INNER, LAYERS = 256, 768, 6

SEED = 11
LR, WARMUP = 1e-3, 2
"""Peak rate, and updates until it is reached."""


LEFT_OUT = 2
"""Updates at the start of a run that are not timed: they touch memory for the first time."""


def write_model(
    folder: Path,
    *,
    layers: int = LAYERS,
    hidden: int = HIDDEN,
    inner: int = INNER,
    vocabulary: int = VOCABULARY,
    **changes: Any,
) -> int:
    """Write the model and its tokenizer; returns the number of parameters (7.2 million by default).

    `changes` are those of the model's configuration.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from fttool.rows.chat import CHATML

    words = [*SPECIAL, *(f"w{number}" for number in range(vocabulary - len(SPECIAL)))]
    inner_tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "<unk>"))
    inner_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner_tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=hidden // 64,
            pad_token_id=PAD_ID,
            bos_token_id=None,
            eos_token_id=END_ID,
            **{"tie_word_embeddings": True, "max_position_embeddings": 1024, **changes},
        )
    )
    model.save_pretrained(folder)
    return model.num_parameters()


def write_rows(folder: Path, *, full_rows: int, full_length: int, chat_rows: int) -> None:
    """Write `full.jsonl`, text rows of one length, and `chat.jsonl`, conversations of mixed length."""
    draw = random.Random(SEED)

    def words(count: int) -> str:
        return " ".join(f"w{min(int(draw.expovariate(1 / 800)), VOCABULARY - 100)}" for _ in range(count))

    with (folder / "full.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(full_rows):
            file.write(json.dumps({"text": words(full_length - 1)}) + "\n")  # fttool adds EOS
    with (folder / "chat.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(chat_rows):
            # Log-normal, as the lengths of instruction rows are: the longest of eight is twice as long as the mean.
            question, answer = (max(4, int(draw.lognormvariate(mean, 0.8))) for mean in (3.9, 4.0))
            turns = [
                {"role": "user", "content": words(min(question, 240))},
                {"role": "assistant", "content": words(min(answer, 240))},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


@dataclass(frozen=True)
class Case:
    """Rows, how they are masked and batched, and how many updates are run over them."""

    rows: str
    """`full` or `chat`."""
    updates: int
    micro_batch: int
    accumulation: int = 1
    regularizers: tuple[dict[str, Any], ...] = ()
    freezing: Any = "full"
    model: str = "model"
    sharding: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    precision: str = "fp32"
    max_length: int = 1024

    @property
    def global_batch(self) -> int:
        """Rows of an update, over all processes."""
        return self.micro_batch * self.accumulation * self.sharding.get("processes", 1)


def write_recipe(folder: Path, case: Case, name: str) -> Path:
    """The recipe of a run over a case; what it does not say is fttool's default."""
    full = case.rows == "full"
    recipe: dict[str, Any] = {
        "recipe": 1,
        "run": {
            "name": name,
            "output": str(folder / "runs"),
            "max_steps": case.updates,
            "micro_batch": case.micro_batch,
            "global_batch": case.global_batch,
            "seed": SEED,
        },
        "model": {"source": str(folder / case.model)},
        "data": {"train": [{"path": str(folder / f"{case.rows}.jsonl"), "format": "text" if full else "messages"}]},
        "masking": "all" if full else "assistant",
        "batching": {"name": "bucketed", "max_length": case.max_length},
        "freezing": case.freezing,
        "optimizer": {"name": "adamw", "lr": LR},
        "schedule": {"name": "cosine", "warmup": WARMUP},
        "regularizers": list(case.regularizers),
        "precision": case.precision,
        "sharding": case.sharding,
    }
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path
