"""`acme.multiple-choice`: a question, its choices and the right one, as MMLU and its kin write them."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from fttool.api import Example, Format, FormatContext, RowReader

ANSWER = "Answer: "
"""What stands before the letter; `acme.after` looks for it."""


class MultipleChoice(Format):
    """A row such as `{"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": 1}` becomes a question and its answer.

    The user's turn is the question and the choices after the letters A, B, C …; the assistant's is "Answer: B", after
    the explanation where there is one. The right choice is given by its number from 0, its letter, or its text.
    """

    name: Literal["acme.multiple-choice"] = "acme.multiple-choice"
    example: ClassVar[Mapping[str, Any]] = {"question": "2 + 2 = ?", "choices": ["3", "4"], "answer": 1}
    question: str = "question"
    """The column of the question."""
    choices: str = "choices"
    """The column of the list of choices, each a text."""
    answer: str = "answer"
    """The column of the right choice."""
    explanation: str | None = None
    """The column of a text that leads to the answer; none by default."""

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Not where the answer is a text: others mean an open question with hints, and `auto` passes them over."""
        answer = row.get(self.answer)
        return not isinstance(answer, str) or len(answer.strip()) == 1

    def build(self, ctx: FormatContext) -> RowReader:
        """Yield the reader of one row; it raises `ValueError` for a row that is not a question with its choices."""

        def read(row: Mapping[str, Any], origin: str) -> Example:
            question, choices = text(row, self.question), texts(row, self.choices)
            letter = string.ascii_uppercase[right(row.get(self.answer), choices, self.answer)]
            led = f"{text(row, self.explanation)}\n" if self.explanation is not None else ""
            listed = "\n".join(f"{mark}. {one}" for mark, one in zip(string.ascii_uppercase, choices, strict=False))
            turns = (
                {"role": "user", "content": f"{question}\n\n{listed}"},
                {"role": "assistant", "content": f"{led}{ANSWER}{letter}"},
            )
            return Example(origin=origin, messages=turns, completion_from=1)

        return read


def text(row: Mapping[str, Any], column: str) -> str:
    """The text in a column, without white space around it."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{column}' must be a text, this is {value!r:.60}; the row has {', '.join(map(str, row))}")
    return value.strip()


def texts(row: Mapping[str, Any], column: str) -> list[str]:
    """The two to 26 different texts in a column."""
    value = row.get(column)
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError(f"'{column}' must be a list of texts, this is {value!r:.60}")
    found = [one.strip() for one in value]
    if not 2 <= len(found) <= len(string.ascii_uppercase) or len(set(found)) < len(found):
        raise ValueError(f"'{column}' must hold 2 to 26 choices, no two alike, these are {len(found)}")
    return found


def right(answer: Any, choices: Sequence[str], column: str) -> int:
    """The number of the right choice, given by number, letter or text; a text goes before a letter."""
    if isinstance(answer, str):
        letters = list(string.ascii_uppercase[: len(choices)])
        for known in (list(choices), letters):
            if answer.strip() in known:
                return known.index(answer.strip())
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise ValueError(f"'{column}' must be the number (from 0), the letter or the text of a choice, this is {answer!r}")
