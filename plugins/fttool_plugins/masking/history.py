"""Which turns a row teaches, and in which history: that of one render, or the one in which inference asks for each.

Templates write earlier turns otherwise than the last: without their thoughts, with another token at their end. In one
render of the whole conversation an earlier turn is therefore learned as it never stands when it is the answer. As a row
of its own, it stands in the render that inference continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fttool.api import Example


def as_asked(example: Example, first: int = 0) -> Sequence[Example]:
    """A row for each learned turn of the assistant from message `first` on: the turns before it, and it as the last.

    The example itself where nothing of it is learned, which masking says.
    """
    learned = [
        index
        for index, message in enumerate(example.messages)
        if index >= first and message.get("role") == "assistant" and index not in example.unlearned
    ]
    if not learned:
        return (example,)
    single = len(learned) == 1
    return [
        replace(
            example,
            origin=example.origin if single else f"{example.origin}#{index + 1}",
            messages=example.messages[: index + 1],
            completion_from=index,
        )
        for index in learned
    ]
