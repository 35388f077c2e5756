"""Which parts of a render a message's own words take up, and the template's text around them.

A turn of the assistant is found by content, not by place: its span begins with the first and ends with the last
character that its content, its thoughts or its calls own, and none of another message stands between. What the
template writes in front of a span (the header) and after it (the end of the turn) reaches to the next text that a
message wrote. Roles do not count as text of a message here: many templates write `<|im_start|>` + role.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from fttool.api import ChatTemplateError
from fttool_plugins.masking.owned import Owner
from fttool_plugins.masking.writing import Written

LEARNED = frozenset(
    {"content", "reasoning_content", "reasoning", "thinking", "tool_calls", "function_call", "tool_plan"}
)
"""The keys of an assistant's message that hold what it says; all others (`role`, `name`, `date` …) describe it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A message's own words in a render, and what the template writes around them. All are places of characters."""

    before: int
    """Behind the text of the message before; 0 where there is none."""
    start: int
    """The first character of the message's own."""
    end: int
    """Behind its last one."""
    after: int
    """The first character of the text that another message wrote after it; the length of the render without one."""
    described: int
    """Behind the last character between `before` and `start` that describes the message, its role aside: a name, say.
    `before` where there is none."""


def spans(written: Written, message: int, alone: Written | None = None) -> list[Span]:
    """Where a message's own words stand: one span, or more where the template writes another's text among them.

    `alone` is a render in which no message follows. What the template writes of a text beyond what it writes there, it
    writes for another message: the name of a tool beside the tool's answer, say.

    Raises `ChatTemplateError` where the template writes what describes a message into its words.
    """
    left = _shares(written, alone, message) if alone else {}
    runs: list[Span] = []
    before = described = 0
    open_, aside = False, None
    for run in written.runs:
        own = run.owner.message == message
        says = own and run.owner.field in LEARNED
        if says and run.owner in left:
            left[run.owner] -= run.end - run.start
            says = left[run.owner] >= 0
        if says:
            if open_ and aside:
                raise ChatTemplateError(
                    f"the chat template writes {written.text[aside.start : aside.end][:40]!r}, the {aside.owner.field} "
                    f"of a message, into the middle of what message {message + 1} says"
                )
            span = runs.pop() if open_ else Span(before, run.start, run.end, len(written.text), max(before, described))
            runs.append(replace(span, end=run.end))
            open_, aside = True, None
        elif run.owner.field == "role" or (own and not runs):
            aside = run
            described = run.end if own and run.owner.field != "role" else described
        else:
            if open_:
                runs[-1] = replace(runs[-1], after=run.start)
            open_, before = False, run.end
    return runs


def says_twice(written: Written, message: int) -> bool:
    """True where the template writes more characters of one of a message's texts than it has."""
    return any(owner.size and number > owner.size for owner, number in _count(written, message).items())


def _shares(written: Written, alone: Written, message: int) -> dict[Owner, int]:
    """Of each text that stands in a render more than once: how many of its characters are the message's own."""
    twice = {owner for owner, number in _count(written, message).items() if owner.size and number > owner.size}
    own = _count(alone, message)
    return {owner: own[owner] for owner in twice}


def _count(written: Written, message: int) -> Counter[Owner]:
    """The number of characters that each text of a message's words has in a render."""
    counts: Counter[Owner] = Counter()
    for run in written.runs:
        if run.owner.message == message and run.owner.field in LEARNED:
            counts[run.owner] += run.end - run.start
    return counts


def words_end(written: Written) -> int:
    """Behind the last character that any message wrote, roles aside; 0 where there is none."""
    return max((run.end for run in written.runs if run.owner.field != "role"), default=0)


def in_common(first: str, second: str) -> int:
    """The number of characters with which both texts begin."""
    parted = (place for place, (mine, other) in enumerate(zip(first, second, strict=False)) if mine != other)
    return next(parted, min(len(first), len(second)))
