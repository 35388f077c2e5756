"""The yardstick: a fine-tuning loop in plain PyTorch, as one would write it for a single model and forget about.

It has what a run needs (AdamW, clipping, a cosine with warmup) and nothing else: no configuration, evaluation, log or
checkpoint. It computes the logits of every slot, learned or not, and is otherwise as quick as plain code gets: AdamW
is the fused one, labels are shifted in the collator (shifting logits would copy them), no attention mask is built
(rows are padded on the right, so a causal model sees no padding).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Row = tuple[Sequence[int], Sequence[int]]
"""Token ids and labels of one row, each (T,); −100 is not learned."""


def collate(rows: Sequence[Row], pad_id: int) -> tuple[Tensor, Tensor]:
    """`input_ids` and targets, each (B, T): the target of a slot is the label of the next one."""
    width = max(len(ids) for ids, _ in rows)
    input_ids_BT = torch.full((len(rows), width), pad_id)
    targets_BT = torch.full((len(rows), width), -100)
    for index, (ids, labels) in enumerate(rows):
        input_ids_BT[index, : len(ids)] = torch.tensor(ids)
        targets_BT[index, : len(ids) - 1] = torch.tensor(labels[1:])
    return input_ids_BT, targets_BT


def cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the peak rate at an update (from 0): up in a straight line, then down a half wave to 0."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def summed_loss(model: Any, input_ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy over full logits, summed; they are let go here, and not kept through the backward pass."""
    logits_BTV = model(input_ids=input_ids_BT, use_cache=False).logits
    return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="sum")


def train(
    model: Any,
    updates: Sequence[Sequence[Sequence[Row]]],
    *,
    pad_id: int,
    lr: float,
    warmup: int,
    max_grad_norm: float = 1.0,
    updated: Callable[[], None],
    autocast: bool = False,
) -> list[float]:
    """Train on `updates`, each a list of micro-batches of rows; returns the loss of each update.

    The loss is the sum of the token losses over the labels of the update. `updated` is called after each update. With
    `autocast` the model computes in bf16.
    """
    on = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, warmup, len(updates)))
    losses: list[Tensor] = []
    model.train()
    for micro_batches in updates:
        batches = [collate(rows, pad_id) for rows in micro_batches]
        labels = sum(int((targets_BT != -100).sum()) for _, targets_BT in batches)
        total = torch.zeros((), device=on)
        for input_ids_BT, targets_BT in batches:
            with torch.autocast(on.type, torch.bfloat16, enabled=autocast):
                loss = summed_loss(model, input_ids_BT.to(on), targets_BT.to(on)) / labels
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
        updated()
    return [float(loss) for loss in losses]
