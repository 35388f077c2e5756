"""Where generation must stop behind an answer: the special token that ends a turn, which is learned with it.

The template writes one text behind an answer that the conversation goes on from and another behind its last one. What
both have in common closes the turn, and the last special token in it is where generation stops. Where they have none
in common, no turn has an end of its own, and the token that opens the next one is where generation stops (GLM: an
answer ends where `<|user|>` or, behind a call, `<|observation|>` begins). Behind the last answer that token is
missing: it is asked of the template with another message behind, and added.

A token that closes one of several calls does not end the turn: the next call may follow it. So a turn with calls is
written once more with all of them twice, and what stands between is no end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fttool.api import Message
from fttool_plugins.masking.prompts import REMEMBERED
from fttool_plugins.masking.spans import LEARNED, Span, in_common, spans
from fttool_plugins.masking.writing import Writer, Written


class End(NamedTuple):
    """How a turn ends behind its words."""

    length: int
    """The number of characters behind the words up to and including the token that ends the turn."""
    added: str
    """What must be added to the conversation so that it ends so; empty where the template writes it."""


class Ends:
    """Finds where turns end; remembers it for every text that it has met behind one."""

    def __init__(self, writer: Writer, special: Sequence[str], eos: str) -> None:
        self._writer = writer
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._eos = eos
        self._ends: dict[str, End | None] = {}

    def end(
        self,
        written: Written,
        places: Sequence[Span],
        at: int,
        index: int,
        messages: Sequence[Message],
        template: Mapping[str, Any],
    ) -> End | None:
        """How the turn of message `index` ends behind span `at` of `places`, which are all of its spans.

        None where no special token of the template ends it.
        """
        span = places[at]
        front, behind = written.text[span.before : span.start], written.text[span.end : span.after]
        calls = bool(messages[index].get("tool_calls"))
        next_place = _next_place(written, span, index)
        following = str(messages[next_place].get("role")) if next_place < len(messages) else None
        options = {key: value for key, value in template.items() if key not in ("tools", "documents")}
        key = json.dumps([front, behind, calls, following, len(places) - at, options], sort_keys=True, default=repr)
        if key not in self._ends:
            if len(self._ends) >= REMEMBERED:
                self._ends.clear()
            inner = self._between_calls(index, messages, template) if calls else frozenset[str]()
            more = [[message] for message in _next_messages(messages[index])] if following is None else [[]]
            others = (self._writer.tried([*messages[:next_place], *one], template) for one in more)
            other = next((one for one in others if one), None)
            within = span if at + 1 < len(places) else None
            elsewhere = _behind(other, index, written, within, following is None) if other else None
            self._ends[key] = self._find(front, behind, elsewhere, inner, following)
        return self._ends[key]

    def _find(
        self, front: str, behind: str, other: str | None, inner: frozenset[str], following: str | None
    ) -> End | None:
        """The end of a turn, from what stands in front of it and behind, and what would if it went on otherwise.

        `following` is the role that speaks behind it; None where none does, and `other` is what would stand there if
        one did. `other` is None where the template refuses to write that.
        """
        found = list(self._special.finditer(behind))
        same = in_common(behind, other) if other is not None else 0
        same = next((match.start() for match in found if match.start() < same < match.end()), same)
        outer = [match for match in found if match.group() not in inner]
        closing = [match for match in outer if match.end() <= same]
        if closing:
            end = closing[-1].end()
            if following is None and behind[end:].strip() == self._eos:
                end = len(behind.rstrip())
            return End(end, "")
        opening = outer[0] if outer and not behind[same : outer[0].start()].strip() else None
        if opening and following != "assistant" and not (following is None and opening.group() in front):
            return End(opening.end(), "")
        if following is None and other is not None and not behind[same:].strip():
            for match in self._special.finditer(other, same):
                if match.group() not in inner and not other[same : match.start()].strip():
                    return End(same, other[same : match.end()])
        if following == "assistant" and not behind.strip():  # the turn goes on in the next message
            return End(0, "")
        within = [match for match in found if match.end() <= same]
        return End(within[-1].end(), "") if within else None

    def _between_calls(self, index: int, messages: Sequence[Message], template: Mapping[str, Any]) -> frozenset[str]:
        """The special tokens that the template writes between two calls of one message; not what the calls say."""
        message = messages[index]
        twice = {key: value for key, value in message.items() if key not in LEARNED or key == "content"}
        twice["tool_calls"] = [*message["tool_calls"], *message["tool_calls"]]
        written = self._writer.tried([*messages[:index], twice], template)
        if written is None:
            return frozenset()
        calls = [run for run in written.runs if run.owner.message == index and run.owner.field == "tool_calls"]
        if not calls:
            return frozenset()
        between = self._special.finditer(written.text, calls[0].start, calls[-1].end)
        return frozenset(found.group() for found in between if not written.is_said(found.start(), found.end()))


def _next_place(written: Written, span: Span, index: int) -> int:
    """The index of the message that speaks behind a span; the number of messages where none does."""
    owner = written.owner(span.after) if span.after < len(written.text) else None
    return max(index + 1, owner.message or 0) if owner else index + 1


def _behind(other: Written, index: int, written: Written, within: Span | None, longer: bool) -> str | None:
    """What stands in `other` behind the words of message `index`; None where it does not write them.

    With `within`, what stands behind those of its words that end in `written` with this span. `longer` says that
    `other` has a message more, which may be written with words of this one.
    """
    try:
        places = spans(other, index, written if longer else None)
    except ValueError:
        return None
    if within is None:
        return other.text[places[-1].end : places[-1].after] if places else None
    owner = written.owner(within.end - 1)
    count = sum(run.end - run.start for run in written.runs if run.owner == owner and run.end <= within.end)
    for place, run in enumerate(other.runs):
        count -= run.end - run.start if run.owner == owner else 0
        if run.owner == owner and count == 0:
            return other.text[run.end : other.runs[place + 1].start if place + 1 < len(other.runs) else None]
    return None


def _next_messages(message: Message) -> list[Message]:
    """What may follow a message of the assistant: a tool's answer to its first call, the user's next question."""
    question: Message = {"role": "user", "content": "?"}
    if not message.get("tool_calls"):
        return [question]
    call: Any = message["tool_calls"][0]
    call = call if isinstance(call, Mapping) else {}
    function: Any = call.get("function", call)
    answer = {"role": "tool", "content": "?", "name": function.get("name"), "tool_call_id": call.get("id")}
    return [{key: value for key, value in answer.items() if value is not None}, question]
