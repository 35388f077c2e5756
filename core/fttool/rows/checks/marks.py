"""Marks by which rows and turns say whether they are learned: `weight`, `train`, `trainable`, `loss`, `masked` …

Others obey them (OpenAI's and Mistral's `weight`, axolotl's `train` and `training`, verl's `trainable`, ms-swift's
`loss`, torchtune's `masked`), so rows that come from there rely on them: a wrong answer that stands in a conversation
only to be corrected is marked, and must not be learned. A key of a turn that seems to say so in another way is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fttool.rows.checks.verdicts import says_bad, spelled

MARKS = ("weight", "train", "training", "trainable", "loss", "masked")
"""The keys of a turn, and the columns of a row, that say whether it is learned."""

_FINER = re.compile(
    r"(?:train|loss|mask)_(?:detail|scale|factor|mask|weight|spans?)s?|(?:token|span)_(?:weight|mask)s?"
)
"""Marks of parts of a turn, or of factors of its loss: nothing here can obey them."""
_MARK = re.compile(
    r"(?:(?:is|do|no|not|dont|should|has|use|skip|ignore|exclude|compute|include)_)*"
    r"(?:train|training|trained|trainable|learn|learned|learnable|learning|loss|losses|mask|masked|supervise|supervised)"
    r"(?:_on)?(?:_(?:turn|row|message|response|answer|this|flag))?"
    r"|(?:(?:sample|row|turn|message|example|instance|response|answer)_)?weights?"
)
"""What names say that a row or a turn counts, or how much, in words of others."""
_UNCLEAR = frozenset(
    {"label", "is_label", "skip", "ignore", "ignored", "exclude", "chosen", "rejected", "reject", "accepted", "score"}
    | {"reward", "rating", "target", "is_target"}
)
"""Keys of turns that judge a turn or say that it counts, in words of which nobody can tell here what they mean."""
_WORDS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
"""What a table in text writes for a number and for true and false."""


def marked_learned(marked: Mapping[str, Any], where: str, *, in_text: bool = False) -> bool:
    """Whether a row or a turn is learned, by its marks; True where it has none.

    Args:
        marked: The row or the turn; only `MARKS` and their kin are read.
        where: What it is, to begin a sentence with: "turn 2 of 'messages'".
        in_text: Take `0`, `1`, `true` and `false` as text too: a table in text has nothing else.

    Raises:
        ValueError: for a mark that is neither on nor off, such as a weight of 0.5, for one on a part of a turn, for
            two that contradict each other, and for a key that may be a mark of others.
    """
    found = False
    for key, value in marked.items():
        if key in MARKS:
            found = True
            continue
        if value in (None, [], {}, ""):
            continue
        if is_finer_mark(key):
            raise ValueError(f"{where} has '{key}': a turn is learned in full, or not at all")
        if is_mark(key) or _is_unclear(key) or says_bad(key, value):
            raise ValueError(
                f"{where} has '{key}', which may say whether it is learned: write 'weight' 0 or 1 for that, or let it "
                f'be ignored, beside the path: ignore = ["{key}"]'
            )
    if not found:
        return True
    said = {key: _learned(key, marked[key], where, in_text) for key in MARKS if marked.get(key) not in (None, "")}
    if len(set(said.values())) > 1:
        raise ValueError(f"the marks of {where} contradict each other: {_listed(marked, said)}")
    return all(said.values())


@lru_cache(maxsize=4096)
def is_mark(name: str) -> bool:
    """Whether a name says that a row or a turn is learned, or how much it counts: `is_masked`, `sample_weight`."""
    return _MARK.fullmatch(spelled(name)) is not None


@lru_cache(maxsize=4096)
def is_finer_mark(name: str) -> bool:
    """Whether a name says so of parts of a turn, or scales its loss: `train_detail`, `loss_scale`."""
    return _FINER.fullmatch(spelled(name)) is not None


@lru_cache(maxsize=4096)
def _is_unclear(name: str) -> bool:
    return spelled(name) in _UNCLEAR


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
