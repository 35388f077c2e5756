"""Where the prompt of inference ends in front of an answer: what stands before is never learned.

Inference writes the messages before an answer and then the template's generation prompt. So the template is asked for
just that, and its text after the last message is held against what stands in front of the answer in training. The
answer begins after all that both have in common

- where the one begins with the other: the template writes the same header in both (numbered, dated, in words), with
  or without a name, and what it writes after (`<think>\n\n</think>\n\n`) the model itself has to write;
- up to a thought that only the prompt opens, so that labels do not depend on whether a thought is asked for.

Where the template asks for nothing after these messages (a tool's answer, say) or refuses them (none at all), the
prompt that it writes after others is looked for. Where it asks for nothing at all, the answer may have no header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fttool.api import ChatTemplateError, Message
from fttool_plugins.masking.answers import THOUGHT
from fttool_plugins.masking.spans import Span, in_common, words_end
from fttool_plugins.masking.writing import Writer, Written

REMEMBERED = 10_000
"""Headers that are kept in mind; beyond that (a template that writes names or times) all are read off again."""

_UNCLOSED = re.compile(r"[<\[][^<>\[\]\s]*$")
"""The beginning of a tag, which two texts may have in common though their tags are not the same."""


QUESTION: Message = {"role": "user", "content": "?"}


class _Prompt(NamedTuple):
    length: int
    """The number of characters that it has of what stands in front of an answer."""
    asked: str
    """What the template adds to ask for an answer; empty where it asks for nothing."""


class Prompts:
    """Finds where answers begin; remembers it for every header that it has seen."""

    def __init__(self, writer: Writer, special: re.Pattern[str]) -> None:
        self._writer = writer
        self._special = special
        self._begins: dict[str, _Prompt | str] = {}
        """What stands in front of an answer → the prompt in it, or what is wrong with it."""

    def begin(
        self, written: Written, span: Span, index: int, messages: Sequence[Message], template: Any
    ) -> tuple[int, str]:
        """The first character of answer `index` that the model is to write, and how the template asks for it.

        Raises `ChatTemplateError` where that cannot be told.
        """
        front = written.text[span.before : span.start]
        options = {key: value for key, value in template.items() if key not in ("tools", "documents")}
        role = messages[index - 1].get("role") if index else None
        calls = written.owner(span.start) or ("", "")
        key = json.dumps([front, span.described - span.before, options, role, calls[1]], sort_keys=True, default=repr)
        if key not in self._begins:
            if len(self._begins) >= REMEMBERED:
                self._begins.clear()
            self._begins[key] = self._find(front, span, index, messages, template, calls[1])
        beginning = self._begins[key]
        if isinstance(beginning, str):
            before = written.owner(span.before - 1) if span.before else None
            place = (
                f"after the {before.field} of message {before.message + 1}, "
                if before and before.message is not None
                else ""
            )
            raise ChatTemplateError(f"{place}message {index + 1} {beginning}")
        begin = span.before + beginning.length
        if any(begin < run.end <= span.start and run.owner == (index, "role", *run.owner[2:]) for run in written.runs):
            asked = front[: beginning.length]
            raise ChatTemplateError(f"message {index + 1} {_complaint(front, [asked] if asked.strip() else [])}")
        return begin, beginning.asked

    def _find(
        self, front: str, span: Span, index: int, messages: Sequence[Message], template: Mapping[str, Any], field: str
    ) -> _Prompt | str:
        """The prompt in `front`, what stands before an answer; or what is wrong."""
        described = span.described - span.before
        asked = self._asked(messages[:index], template)
        length = _prompt_length(front, asked[0], described) if asked else None
        if length is None and asked and field == "tool_calls":
            length = self._before_a_call(front, asked[0])
        if asked is not None and asked[1].strip() and length is not None:
            return _Prompt(length, asked[1])
        others = [prompt for prompt in self._elsewhere(messages, template) if prompt.strip()]
        for prompt in others:
            within = _prompt_within(front, prompt, described)
            if within is not None:
                return _Prompt(within, prompt)
        if asked is None and not others:
            length = 0
        if length is None or not _is_bare(front[length:], field):
            prompts = [asked[1]] if asked and asked[1].strip() else others
            return _complaint(front, prompts)
        return _Prompt(length, "")

    def _before_a_call(self, front: str, prompt: str) -> int | None:
        """The length of a prompt that ends in words which only answers have (`Here are my steps:`); None for others."""
        same = in_common(front, prompt)
        return same if front[:same].endswith("\n") and not self._special.search(prompt, same) else None

    def _asked(self, head: Sequence[Message], template: Mapping[str, Any]) -> tuple[str, str] | None:
        """What inference has after the words of these messages, up to a thought, and what of it asks for an answer.

        None where the template refuses them.
        """
        asked = self._writer.tried(head, template, add_generation_prompt=True)
        unasked = self._writer.tried(head, template)
        if asked is None or unasked is None:
            return None
        words = words_end(asked)
        if asked.text == unasked.text:  # it takes no notice, or asks always
            following = self._writer.tried([*head, QUESTION], template)
            closing = _behind_words(following, len(head)) if following else asked.text[words:]
            same = words + in_common(asked.text[words:], closing)
        else:
            same = in_common(asked.text, unasked.text)
        same = len(_UNCLOSED.sub("", asked.text[:same]))
        added = THOUGHT.split(asked.text[max(words, same) :])[0]
        return asked.text[words : max(words, same)] + added, added

    def _elsewhere(self, messages: Sequence[Message], template: Mapping[str, Any]) -> Iterator[str]:
        """How the template asks for an answer after other messages: all of these, parts of them, a question."""
        heads: list[Sequence[Message]] = [messages]
        heads += [messages[:place] for place, message in enumerate(messages) if message.get("role") == "assistant"]
        heads += [[QUESTION], [{**QUESTION, "content": [{"type": "text", "text": "?"}]}]]
        for head in heads:
            asked = self._asked(head, template)
            if asked:
                yield asked[1]


def _behind_words(written: Written, index: int) -> str:
    """What stands between the words of the messages before `index` and those of that one; empty where it has none."""
    places = [run for run in written.runs if run.owner.field != "role"]
    start = max((run.end for run in places if run.owner.message != index), default=0)
    return next((written.text[start : run.start] for run in places if run.owner.message == index), "")


def _prompt_length(front: str, prompt: str, described: int) -> int | None:
    """The length of the prompt at the beginning of `front`; None where the two part before either ends.

    What describes the message (a name) ends at `described`: the prompt, which knows none, may go on after it.
    """
    same = in_common(front, prompt)
    rest = prompt[same:]
    if same < described:
        if not rest:
            return _behind(front, same, "", described)
        at = front.find(rest, described)
        if at >= 0:
            return at + len(rest)
        # A name may stand in the place of the role: what the prompt has after the role stands after the name.
        tails = (rest[place:] for place in range(1, len(rest)))
        return next((described + len(tail) for tail in tails if front.startswith(tail, described)), None)
    return same if same == len(front) or not rest.strip() else None


def _prompt_within(front: str, prompt: str, described: int) -> int | None:
    """Behind the prompt that stands somewhere in `front`; None where it does not."""
    at = front.rfind(prompt.strip())
    if at >= 0:
        return _behind(front, at + len(prompt.strip()), prompt, described)
    prompt = prompt.lstrip()
    starts = (place for place, letter in enumerate(front) if letter == prompt[0])
    lengths = ((place, _prompt_length(front[place:], prompt, described - place)) for place in starts)
    return next((place + length for place, length in lengths if length is not None), None)


def _behind(front: str, end: int, prompt: str, described: int) -> int:
    """The end of a header of which `end` is known: after what describes the message and the white space there."""
    blank = prompt[len(prompt.rstrip()) :]
    if end < described:
        end, blank = described, front[described : len(front) - len(front[described:].lstrip())]
    while not front.startswith(blank, end):
        blank = blank[:-1]
    return end + len(blank)


def _is_bare(rest: str, field: str) -> bool:
    """True for what a model may write of its own accord in front of its words: nothing, a thought's tag, a call's."""
    return field == "tool_calls" or not THOUGHT.sub("", rest).strip()


def _complaint(front: str, prompts: Sequence[str]) -> str:
    if not any(prompt.strip() for prompt in prompts):
        return (
            f"begins with {front[-40:]!r}, but the chat template ignores add_generation_prompt: inference "
            "would ask for an answer without it"
        )
    return (
        f"begins with {front[-40:]!r}, but the chat template asks for an answer with {prompts[0]!r}: what inference "
        "asks for would never be learned"
    )
