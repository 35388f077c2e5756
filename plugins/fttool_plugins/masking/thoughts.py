"""Thoughts of the assistant: whether they are complete, where they stand in a turn, and which of them are learned.

A thought stands in a turn's content, between tags in front of the answer, or under a key of its own. Data sets lose one
of the tags (DeepSeek-R1's prompts open the thought, and so its answers only close it), or have it in both places. A
template then splits the text where it should not, and what is learned is a thought as answer, or a lone `</think>`.

Templates also write an empty thought (`<think>\\n\\n</think>`) in front of an answer that has none. Learned, it teaches
not to think; so it is counted, and an option leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fttool.api import Message

if TYPE_CHECKING:
    from fttool_plugins.masking.writing import Written

EMPTY = "teaching an empty thought"
"""A remark on rows."""
KEYS = ("reasoning_content", "reasoning", "thinking")
"""Where a turn has its thought apart from its content."""

_NAME = r"(?:seed:)?(?:think|thinking|thought|thoughts|reason|reasoning)"
_PAIRS = re.compile(
    rf"<(?P<close>/?)(?P<name>{_NAME})>|\[(?P<close2>/?)THINK\]|◁(?P<close3>/?)think▷"
    r"|<\|(?P<edge>START|END)_THINKING\|>|<\|(?P<edge2>begin|end)_of_thought\|>",
    re.IGNORECASE,
)
"""The tags of a thought in a text; a group `close…` or `edge…` says which of the two it is."""
_ANYWHERE = ("think", "thinking", "seed:think")
"""Tags that are a thought's even where the template takes no notice of them; `<reason>` may be any XML."""
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
"""Text that is quoted as code in Markdown."""
_OPENS = re.compile(r"\s*[<\[][^<>\[\]\s]*(?:think|thought|reason|channel)[^<>\[\]\s]*[>\]]", re.IGNORECASE)
"""A tag with which what a template writes of a thought may begin: `<think>`, `<|channel|>`, `<|channel>` …"""
_CLOSES = re.compile(r"[<\[](?:/[^<>\[\]\s]+|\|?[^<>\[\]\s]*end[^<>\[\]\s]*|[^<>\[\]\s|/]+\|)[>\]]", re.IGNORECASE)
"""A tag with which it may end: `</think>`, `[/THINK]`, `<|END_THINKING|>`, `<|end|>`, `<channel|>`."""


def check_thoughts(message: Message, number: int, template: str) -> None:
    """Raise `ValueError` where a turn's thought is incomplete, or stands in its content and beside it.

    `number` counts messages from 1; `template` is the chat template's source. Tags that are quoted as code are text,
    but where the template itself looks for them, and would split the text there.
    """
    content = message.get("content")
    if not isinstance(content, str) or not _PAIRS.search(content):
        return
    tags = list(_tags(content, template))
    if not tags:
        return
    advice = "write it as <think>…</think> in front of the answer, or as the turn's 'reasoning_content'"
    opened: _Tag | None = None
    for tag in tags:
        if tag.closes == (opened is None):
            what = "closes a thought that it has not opened" if tag.closes else "opens a thought within a thought"
            raise ValueError(f"message {number} {what} ({tag.text}): {advice}")
        if opened is not None and tag.name != opened.name:
            raise ValueError(f"message {number} opens a thought by {opened.text} and closes it by {tag.text}: {advice}")
        opened = None if tag.closes else tag
    if opened is not None:
        raise ValueError(f"message {number} opens a thought and never closes it ({opened.text}): {advice}")
    around = content[: tags[0].place] + content[tags[1].end :]
    if len(tags) == 2 and not around.strip() and not message.get("tool_calls"):
        raise ValueError(f"message {number} has a thought ({tags[0].text}) and no answer: {advice}")
    apart = next((key for key in KEYS if isinstance(message.get(key), str) and message[key].strip()), None)
    if apart is not None:
        raise ValueError(f"message {number} has a thought in its content ({tags[0].text}) and in '{apart}': keep one")
    knows = tags[0].text in template or tags[1].text in template
    if knows and (len(tags) > 2 or content[: tags[0].place].strip()):
        raise ValueError(
            f"message {number} has a thought that is not in front of its answer, and the chat template splits the text "
            f"at {tags[1].text}: {advice}"
        )


def in_two_places(message: Message) -> tuple[str, str] | None:
    """The tag that opens a thought in front of a turn's content, and the key under which it has one too; None where
    there are not both.
    """
    content = message.get("content")
    opening = _PAIRS.match(content.lstrip()) if isinstance(content, str) else None
    key = next((key for key in KEYS if isinstance(message.get(key), str) and message[key].strip()), None)
    return None if opening is None or key is None or _is_closing(opening) else (opening.group(), key)


class _Tag(NamedTuple):
    text: str
    name: str
    """What a tag that opens a thought has in common with the one that closes it."""
    place: int
    end: int
    closes: bool


def _tags(content: str, template: str) -> Iterator[_Tag]:
    """The tags of thoughts in a text, but for those quoted as code that the template takes no notice of."""
    quoted = [range(*match.span()) for match in _CODE.finditer(content)]
    for match in _PAIRS.finditer(content):
        text, place = match.group(), match.start()
        name = match["name"] or ""
        known = text in template or (name and (f"<{name}>" in template or f"</{name}>" in template))
        if not known and (any(place in stretch for stretch in quoted) or (name and name.lower() not in _ANYWHERE)):
            continue
        either = re.sub(r"/|start_|begin_|end_", "", text.lower())
        yield _Tag(text, either, place, match.end(), _is_closing(match))


class Thought(NamedTuple):
    """The characters `start` to `end` (exclusive) of a render: a thought with its tags and the white space behind."""

    start: int
    end: int
    empty: bool
    """True where no message has written anything between its tags."""


def begins_with_tag(text: str, start: int, end: int) -> bool:
    """Whether a turn from `start` to `end` may begin with a thought."""
    return _OPENS.match(text, start, end) is not None


def thought(written: Written, start: int, end: int) -> Thought | None:
    """The thought with which the turn from `start` to `end` begins; None where it begins with the answer."""
    text = written.text
    opening = _OPENS.match(text, start, end)
    if opening is None:
        return None
    inside = opening.end()
    apart = max([inside, *(run.end for run in written.runs if inside <= run.start < end and run.owner.field in KEYS)])
    tagged = _PAIRS.fullmatch(opening.group().strip()) is not None
    closing = next(filter(_is_closing, _PAIRS.finditer(text, apart, end)), None) if tagged else None
    closing = closing or _CLOSES.search(text, apart, end)
    if closing is None:
        return None
    said = [
        run
        for run in written.runs
        if run.start < closing.start() and run.end > inside and run.owner.field != "role"
        if text[max(run.start, inside) : min(run.end, closing.start())].strip()
    ]
    if not tagged and any(run.owner.field not in KEYS for run in said):  # a channel may hold the answer
        return None
    behind = text[closing.end() : end]
    return Thought(start, closing.end() + len(behind) - len(behind.lstrip()), not said)


def _is_closing(match: re.Match[str]) -> bool:
    slash = match["close"] or match["close2"] or match["close3"]
    return bool(slash) or (match["edge"] or match["edge2"] or "").upper() == "END"
