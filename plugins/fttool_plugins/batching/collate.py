"""Rows to tensors, shared by all batching strategies: sequences of one or more rows, padded on the right.

The first token of each row never has a label: nothing before it predicts it, and in a packed sequence the token before
it belongs to another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fttool.api import Encoded

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""PyTorch's `ignore_index`: a label that is not learned."""


def padded(sequences: Sequence[Sequence[Encoded]], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `labels` and `attention_mask`, each (B, T), of sequences that hold one row each."""
    import torch

    width = max(len(row.input_ids) for (row,) in sequences)
    shape = (len(sequences), width)
    input_ids_BT = torch.full(shape, pad_id)
    labels_BT = torch.full(shape, IGNORED)
    attention_mask_BT = torch.zeros(shape, dtype=torch.long)
    for index, (row,) in enumerate(sequences):
        length = len(row.input_ids)
        input_ids_BT[index, :length] = torch.as_tensor(row.input_ids)
        labels_BT[index, 1:length] = torch.as_tensor(row.labels[1:])
        attention_mask_BT[index, :length] = 1
    return {"input_ids": input_ids_BT, "labels": labels_BT, "attention_mask": attention_mask_BT}


def packed(sequences: Sequence[Sequence[Encoded]], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `labels` and `position_ids`, each (B, T), of sequences that hold several rows each.

    Positions start again at 0 with each row: transformers reads that as separate documents and keeps attention inside
    them. Each slot of padding has position 0, a document of its own within any table of positions. There is no
    attention mask, since one would switch that off.
    """
    import torch

    width = max(sum(len(row.input_ids) for row in rows) for rows in sequences)
    shape = (len(sequences), width)
    input_ids_BT = torch.full(shape, pad_id)
    labels_BT = torch.full(shape, IGNORED)
    position_ids_BT = torch.zeros(shape, dtype=torch.long)
    for index, rows in enumerate(sequences):
        start = 0
        for row in rows:
            end = start + len(row.input_ids)
            input_ids_BT[index, start:end] = torch.as_tensor(row.input_ids)
            labels_BT[index, start + 1 : end] = torch.as_tensor(row.labels[1:])
            position_ids_BT[index, start:end] = torch.arange(end - start)
            start = end
    return {"input_ids": input_ids_BT, "labels": labels_BT, "position_ids": position_ids_BT}


def flattened(sequences: Sequence[Sequence[Encoded]]) -> dict[str, Any]:
    """All N tokens of a micro-batch in one sequence without padding: `input_ids`, `labels` and `position_ids`, each
    (1, N), and where each of R rows ends.

    Kernels of variable length, as flash-attention's, keep attention inside rows by their cumulative lengths, (R + 1,),
    int32, and ask for the longest row as a number. transformers would find the lengths by the position ids too, but
    with one sequence only and by waiting for the device in each layer.
    """
    import torch

    rows = [row for sequence in sequences for row in sequence]
    lengths = [len(row.input_ids) for row in rows]
    ends_R = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    labels = [label for row in rows for label in (IGNORED, *row.labels[1:])]
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row.input_ids]]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
        "cu_seq_lens_q": ends_R,
        "cu_seq_lens_k": ends_R,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
