"""Verdicts on a row or a turn: columns such as `is_correct`, `quality`, `toxic`, by which others leave rows out.

A rollout that failed its check, an answer that people voted down, a text that a classifier flagged: such rows stay in
a data set beside the good ones, and a column says which they are. Where it says so, the row is not to be learned in
silence. Where the verdict is good, or the value tells nothing of the kind (a score of 12), the column is one that is
not read, like any other.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_GOOD = frozenset(
    {"accept", "acceptable", "accepted", "approved", "correct", "correctness", "desirable", "feedback", "good", "grade"}
    | {"helpful", "kto", "pass", "passed", "preferred", "quality", "rating", "resolved", "safe", "score", "solved"}
    | {"success", "successful", "thumbs", "valid", "verdict"}
)
"""What is said of a good row with yes or much, and of a bad one with no or little."""
_BAD = frozenset(
    {"bad", "corrupt", "corrupted", "deleted", "discard", "discarded", "dispreferred", "downvoted", "exclude"}
    | {"excluded", "failed", "failure", "flagged", "hallucinated", "hallucination", "harmful", "ignore", "ignored"}
    | {"incorrect", "invalid", "mislabeled", "noisy", "refused", "removed", "skip", "skipped", "thumbs_down", "toxic"}
    | {"toxicity", "undesirable", "unsafe", "wrong"}
)
"""What is said of a bad row with yes or much."""
_NO = frozenset(
    {"false", "no", "n", "bad", "wrong", "incorrect", "reject", "rejected", "fail", "failed", "failure", "poor", "low"}
    | {"very poor", "very low", "worst", "negative", "undesirable", "unsafe", "harmful", "toxic", "flagged", "invalid"}
    | {"thumbs down", "down", "dislike", "downvote", "unacceptable", "excluded", "unhelpful", "unsuccessful"}
)
_YES = frozenset({"true", "yes", "y"})
_AROUND = re.compile(
    r"^(?:(?:is|was|has|been|marked|response|answer|output|completion|assistant|model|overall|data|sample|row|turn)_)+"
    r"|_(?:score|rating|label|flag|tag|value)$"
)
"""What stands around such a word in a name: `is_correct`, `response_quality`, `kto_tag`."""
HALF = 0.5
"""Numbers below this are a no, from this on a yes: of shares from 0 to 1, and of rewards around 0."""


@lru_cache(maxsize=4096)
def spelled(name: str) -> str:
    """A name in small letters and with underscores: `isCorrect`, `Is-Correct` and `IS CORRECT` are `is_correct`."""
    return re.sub(r"[\s\-.]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())).lower()


def says_bad(name: str, value: Any) -> bool:
    """Whether a column or key is a verdict by its name, and says by its value that the row or turn is bad."""
    kind = _kind(name)
    return kind is not None and _judged(value) is (not kind)


@lru_cache(maxsize=4096)
def _kind(name: str) -> bool | None:
    """True for the name of a verdict of which yes is good, False where yes is bad, None for any other name."""
    words = {spelled(name), _AROUND.sub("", spelled(name))}
    return True if words & _GOOD else False if words & _BAD else None


def _judged(value: Any) -> bool | None:
    """The value as a yes or a no; None where it is neither."""
    if isinstance(value, str):
        text = " ".join(value.lower().replace("_", " ").split())
        if text in _NO or text in _YES:
            return text in _YES
        try:
            value = float(text)
        except ValueError:
            return None
    return value >= HALF if isinstance(value, bool | int | float) else None
