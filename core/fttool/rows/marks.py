"""Marks by which rows and turns say whether they are learned: `weight`, `train`, `trainable`, `loss`, `masked`.

Others obey them (OpenAI's and Mistral's `weight`, axolotl's `train`, verl's `trainable`, ms-swift's `loss`, torchtune's
`masked`), so rows that come from there rely on them: a wrong answer that stands in a conversation only to be corrected
is marked, and must not be learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARKS = ("weight", "train", "trainable", "loss", "masked")
"""The keys of a turn, and the columns of a row, that say whether it is learned."""

_FINER = ("train_detail", "loss_scale", "loss_mask")
"""Marks of parts of a turn, or of factors of its loss: nothing here can obey them."""
_WORDS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""What a table in text writes for a number and for true and false."""


def marked_learned(marked: Mapping[str, Any], where: str, *, in_text: bool = False) -> bool:
    """Whether a row or a turn is learned, by its marks; True where it has none.

    Args:
        marked: The row or the turn; only `MARKS` and their finer kin are read.
        where: What it is, to begin a sentence with: "turn 2 of 'messages'".
        in_text: Take `0`, `1`, `true` and `false` as text too: a table in text has nothing else.

    Raises:
        ValueError: for a mark that is neither on nor off, such as a weight of 0.5, for one on a part of a turn, and
            for two that contradict each other.
    """
    for key in _FINER:
        if marked.get(key) not in (None, [], {}, ""):
            raise ValueError(f"{where} has '{key}': a turn is learned whole and alike, or not at all")
    said = {key: _learned(key, marked[key], where, in_text) for key in MARKS if marked.get(key) not in (None, "")}
    if len(set(said.values())) > 1:
        raise ValueError(f"the marks of {where} contradict each other: {_listed(marked, said)}")
    return all(said.values())


def _learned(key: str, value: Any, where: str, in_text: bool) -> bool:
    given = _WORDS.get(value.strip().lower(), value) if in_text and isinstance(value, str) else value
    if isinstance(given, int | float) and given in (0, 1):  # True and False are 1 and 0
        return bool(given) != (key == "masked")
    if isinstance(given, int | float):
        what = f"{where} has {key} {given:g}, and a loss is not scaled by row or turn"
        raise ValueError(f"{what}: write 1 to learn it or 0 not to")
    shown = f"the text {value[:40]!r}" if isinstance(value, str) else type(value).__name__
    raise ValueError(f"the {key} of {where} must be 0, 1, true or false, this is {shown}")


def _listed(marked: Mapping[str, Any], keys: Mapping[str, bool]) -> str:
    return ", ".join(f"{key} {marked[key]!r}" for key in keys)
