"""Every causal architecture that can be made tiny is right in its batches, or refused; and the page says which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from fttool.contracts.rows import Encoded

from ...causal import PAGE, RIGHT, drawn, kinds, tiny_causal, verdicts

QUICK = ("bert", "bloom", "gpt2", "gpt_oss", "lfm3", "llama", "mamba", "mixtral", "mpt", "opt", "qwen3", "xglm")
"""Of each kind of verdict; the others are slow together."""

pytestmark = pytest.mark.filterwarnings("ignore")


def said_by_the_page() -> dict[str, tuple[str, str]]:
    """Architecture → verdicts on padded and packed rows."""
    text = PAGE.read_text()
    (right,) = re.findall(r"^## Padded and packed: \d+\n\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    found = dict.fromkeys(re.findall(r"`([^`]+)`", right), (RIGHT, RIGHT))
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return found | {kind: (padded, packed) for kind, padded, packed in rows}


def losses(logits_TV: Tensor, row: Encoded) -> Tensor:
    return F.cross_entropy(
        logits_TV[: len(row.input_ids) - 1].float(), torch.tensor(row.input_ids[1:]), reduction="none"
    )


def alone(model: Any, row: Encoded) -> Tensor:
    return losses(model(input_ids=torch.tensor([row.input_ids]), use_cache=False).logits[0], row)


def padded(model: Any, rows: Sequence[Encoded]) -> list[Tensor]:
    """By hand: zeros after each row."""
    width = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows])
    return [losses(some, row) for some, row in zip(model(input_ids=ids, use_cache=False).logits, rows, strict=True)]


def packed(model: Any, rows: Sequence[Encoded]) -> list[Tensor]:
    """By hand: one row after another, with positions that begin again."""
    ids = torch.tensor([[token for row in rows for token in row.input_ids]])
    positions = torch.cat([torch.arange(len(row.input_ids)) for row in rows])[None]
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0]
    return [
        losses(some, row) for some, row in zip(logits.split([len(row.input_ids) for row in rows]), rows, strict=True)
    ]


def is_right(model: Any, together: Any) -> bool:
    """A twin of the proof, on other rows: losses by the model's own forward, and no token seen before its turn."""
    rows = drawn(7, 21, 40, 33)
    changed = [Encoded([*row.input_ids[:-6], *other.input_ids[:6]], []) for row, other in pairwise(rows)]
    try:
        with torch.no_grad():
            by_itself = [alone(model, row) for row in rows]
            company = together(model, rows)
            ahead = [(alone(model, one), row) for one, row in zip(changed, by_itself, strict=False)]
    except (TypeError, RuntimeError, IndexError, ValueError):
        return False
    largest = max(float((a - b).abs().max()) for a, b in zip(by_itself, company, strict=True))
    early = max(float((one[: len(one) - 6] - row[: len(one) - 6]).abs().max()) for one, row in ahead)
    return max(largest, early) < 5e-6


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.full) for kind in said_by_the_page()]
)
def test_it_is_right_or_refused(kind: str) -> None:
    """By a twin that is independent of probes, collators and score; and as the page says."""
    found, model = verdicts(kind), tiny_causal(kind)
    assert (found[0] == RIGHT) == is_right(model, padded), f"padded: {found[0]}"
    assert (found[1] == RIGHT) == is_right(model, packed), f"packed: {found[1]}"
    if f"transformers {transformers.__version__} " in PAGE.read_text():
        assert said_by_the_page()[kind] == found, "python tests/causal.py writes the page"


def test_the_page_has_every_architecture() -> None:
    text = PAGE.read_text()
    if f"transformers {transformers.__version__} " in text:
        assert {kind for kind in kinds() if f"`{kind}`" not in text} == set()
