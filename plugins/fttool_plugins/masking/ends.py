"""Where generation must stop after an answer: the special token that ends a turn, which is learned with it.

The template writes one text after an answer that the conversation goes on from and another after its last one. What
both have in common closes the turn, and the last special token in it is where generation stops. Where they have none
in common, no turn has an end of its own, and the token that opens the next one is where generation stops (GLM: an
answer ends where `<|user|>` or, after a call, `<|observation|>` begins). After the last answer that token is
missing: it is asked of the template with another message after, and added.

A token that closes one of several calls does not end the turn: the next call may follow it. So a turn with calls is
written once more with all of them twice, and what is between them is not an end. Nor is a token that opens a turn, or
pads, after one that closes it; and what follows EOS is never generated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from fttool.api import ChatTemplateError, Message
from fttool_plugins.masking.prompts import REMEMBERED
from fttool_plugins.masking.spans import LEARNED, Span, in_common, spans
from fttool_plugins.masking.writing import Writer, Written


class End(NamedTuple):
    """How a turn ends after its words."""

    length: int
    """The number of characters after the words up to and including the token that ends the turn."""
    added: str
    """What must be added to the conversation so that it ends so; empty where the template writes it."""


class _Around(NamedTuple):
    """What stands around the words of a turn."""

    front: str
    behind: str
    prompt: str
    """How the template asks for the answer."""
    following: str | None
    """The role that speaks after; None where none does."""
    calls: bool
    """True where the message calls tools."""
    called: bool
    """True where a call is the last of its words."""
    again: bool
    """True where the next message is the assistant's too."""
    aside: str
    """The key of the message's own that is written after its words (`name`); empty where none is."""


class Ends:
    """Finds where turns end; remembers it for every text that it has seen after one."""

    def __init__(self, writer: Writer, special: re.Pattern[str], eos: str, fillers: Collection[str]) -> None:
        self._writer = writer
        self._special = special
        self._eos = eos
        self._fillers = frozenset(fillers) - {eos}
        """Special tokens that end nothing: BOS, padding and their like."""
        self._ends: dict[str, End | str] = {}

    def end(
        self,
        written: Written,
        places: Sequence[Span],
        at: int,
        index: int,
        messages: Sequence[Message],
        template: Mapping[str, Any],
        prompt: str,
    ) -> End:
        """How the turn of message `index` ends after span `at` of `places`, which are all of its spans.

        `prompt` is how the template asks for an answer.

        Raises `ChatTemplateError` where no special token ends the turn.
        """
        around = _around(written, places[at], index, messages, prompt)
        options = {key: value for key, value in template.items() if key not in ("tools", "documents")}
        key = json.dumps([around, len(places) - at, options], sort_keys=True, default=repr)
        if key not in self._ends:
            if len(self._ends) >= REMEMBERED:
                self._ends.clear()
            inner = self._between_calls(index, messages, template) if around.calls else frozenset[str]()
            next_place = _next_place(written, places[at], index)
            more = [[message] for message in _next_messages(messages[index])] if around.following is None else [[]]
            others = (self._writer.tried([*messages[:next_place], *candidate], template) for candidate in more)
            other = next((candidate for candidate in others if candidate), None)
            within = places[at] if at + 1 < len(places) else None
            elsewhere = _behind(other, index, written, within, around.following is None) if other else None
            self._ends[key] = self._find(around, elsewhere, inner, self._opening(written, prompt))
        closing = self._ends[key]
        if isinstance(closing, str):
            raise ChatTemplateError(f"message {index + 1} {closing}")
        return closing

    def _opening(self, written: Written, prompt: str) -> frozenset[str]:
        """The special tokens that open a turn: those with which an answer is asked for, and the first of the text."""
        tokens = (match.group() for match in self._special.finditer(written.text))
        return frozenset(
            [*self._special.findall(prompt), next((token for token in tokens if token not in self._fillers), "")]
        )

    def _find(self, around: _Around, other: str | None, inner: frozenset[str], opens: frozenset[str]) -> End | str:
        """The end of a turn, or what is wrong.

        `other` is what would stand after the words if the conversation went on otherwise; None where the template
        refuses to write that. Tokens of `inner` stand between calls, those of `opens` open turns.
        """
        behind, following = around.behind, around.following
        lead, other_lead = (self._markup(behind), self._markup(other or "")) if around.called else (0, 0)
        behind, elsewhere = behind[lead:], None if other is None else other[other_lead:]
        matches = list(self._special.finditer(behind))
        same = in_common(behind, elsewhere) if elsewhere is not None else 0
        same = next((match.start() for match in matches if match.start() < same < match.end()), same)
        outer = [match for match in matches if match.group() not in inner]
        closing = self._closing([match for match in outer if match.end() <= same], opens)
        if closing:
            end = closing[-1].end()
            if following is None and behind[end:].strip() == self._eos:
                end = len(behind.rstrip())
            return End(lead + end, "")
        opening = outer[0] if outer and not behind[same : outer[0].start()].strip() else None
        if opening and following != "assistant" and not (following is None and opening.group() in around.front):
            return End(lead + opening.end(), "")
        if following is None and elsewhere is not None and not behind[same:].strip():
            for match in self._special.finditer(elsewhere, same):
                if match.group() not in inner and not elsewhere[same : match.start()].strip():
                    return End(lead + same, elsewhere[same : match.end()])
        if following == "assistant" and not behind.strip():  # the turn goes on in the next message
            return End(lead, "")
        within = [match for match in matches if match.end() <= same]
        return End(lead + within[-1].end(), "") if within else self._complaint(around, other)

    def _closing(self, matches: list[re.Match[str]], opening: frozenset[str]) -> list[re.Match[str]]:
        """Of the special tokens after a turn those that close it: up to EOS, or to one that opens the next turn."""
        for place, match in enumerate(matches):
            if match.group() == self._eos:
                return matches[: place + 1]
            if match.group() in opening or (place and match.group() in self._fillers):
                return matches[: max(place, 1)]
        return matches

    def _markup(self, text: str) -> int:
        """The length of what closes a call: all in front of the first special token and the white space before it."""
        match = self._special.search(text)
        return len(text[: match.start()].rstrip()) if match else len(text)

    def _complaint(self, around: _Around, other: str | None) -> str:
        """Why a turn has no end, with what the template writes after it."""
        behind = around.behind
        if around.aside:
            return (
                f"has its {around.aside} written between what it says and the token that ends it, after "
                f"{behind[:40]!r}: the model would learn to write it"
            )
        if around.again and self._special.search(behind):
            return (
                "has no end of its own, for the next one is the assistant's too, and the chat template ends a turn by "
                "opening another role's; make one message of the two"
            )
        if other is not None and self._special.search(behind + other):
            now, then = ("at the end", "where more follows") if around.following is None else ("here", "where it ends")
            return (
                f"has no end: after its content the chat template writes {behind[:40]!r} {now}, and {other[:40]!r} "
                f"{then}; no special token ends the turn in both"
            )
        return (
            f"never ends: after its content the chat template writes {behind[:40]!r}, and no special token of this "
            "tokenizer in it ends the turn, so the model would never learn to stop"
        )

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
        return frozenset(match.group() for match in between if not written.is_said(match.start(), match.end()))


def _around(written: Written, span: Span, index: int, messages: Sequence[Message], prompt: str) -> _Around:
    next_place = _next_place(written, span, index)
    said, aside = (written.owner(place) if place < len(written.text) else None for place in (span.end - 1, span.after))
    return _Around(
        front=written.text[span.before : span.start],
        behind=written.text[span.end : span.after],
        prompt=prompt,
        following=str(messages[next_place].get("role")) if next_place < len(messages) else None,
        calls=bool(messages[index].get("tool_calls")),
        called=said is not None and said.field == "tool_calls",
        again=[message.get("role") for message in messages[index + 1 : index + 2]] == ["assistant"],
        aside=aside.field if aside is not None and aside.message == index else "",
    )


def _next_place(written: Written, span: Span, index: int) -> int:
    """The index of the message that speaks after a span; the number of messages where none does."""
    owner = written.owner(span.after) if span.after < len(written.text) else None
    return max(index + 1, owner.message or 0) if owner else index + 1


def _behind(other: Written, index: int, written: Written, within: Span | None, longer: bool) -> str | None:
    """What stands in `other` after the words of message `index`; None where it does not write them.

    With `within`, what stands after those of its words that end in `written` with this span. `longer` says that
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
