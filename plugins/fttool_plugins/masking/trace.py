"""Which characters of a rendered conversation come from which message.

Every chat template walks over its messages in a `for` loop. So the template itself is marked, not the messages: as a
round of a loop starts it writes a mark that names the message in hand, and after the loop another. The texts stay as
they are, so whatever the template does with them (strip, split at `</think>`, branch) happens as ever. With the marks
taken out, the text must be the unmarked render to the character: whoever uses a trace compares the two.

Only text goes in and out, through `fttool.api.chat_text`; nothing of its inside is touched.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fttool.api import Message, chat_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INDEX = "fttool_message"
"""The key under which a message carries its index into the template."""
_CAPTURES = frozenset({"macro", "call", "filter", "set"})
"""Blocks whose text the template may look at before it writes it: a mark in there could change what it does."""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start` to `end` (exclusive) of a render, written while `message` was in hand."""

    message: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Trace:
    """A render, and which message wrote which part of it."""

    text: str
    spans: tuple[Span, ...]
    """In the order of their ends. One may lie within another; those of loops that write nothing are empty."""


class Tracer:
    """Renders conversations with a tokenizer's chat template, marked."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._nonce = secrets.token_hex(12)
        """Opens every mark; no text of a message can foresee it."""
        self._marked: dict[str, str] = {}
        """Template → marked template."""

    def trace(self, messages: Sequence[Message], template: Mapping[str, Any], **more: Any) -> Trace:
        """Render the marked template once.

        `template` and `more` go to `chat_text`; whatever the template raises comes through.
        """
        source = self._tokenizer.get_chat_template(tools=template.get("tools"))
        if source not in self._marked:
            self._marked[source] = "".join(_mark(source, self._nonce))
        numbered: list[Any] = [{**message, _INDEX: index} for index, message in enumerate(messages)]
        text = chat_text(self._tokenizer, numbered, chat_template=self._marked[source], **template, **more)
        return _read(text, self._nonce)


# -- writing the marks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """An open block of the template: a loop, or one that captures what is written in it."""

    keyword: str
    number: int
    variables: tuple[str, ...] = ()
    """A loop's own."""


def _mark(source: str, nonce: str) -> Iterator[str]:
    """The pieces of the template and, between them, tags that write marks.

    - `nonce:loop:index;` a round of the loop starts; no index where what it holds is not a message.
    - `nonce:loop=index;` a variable is set to a message: how a loop over numbers picks its own.
    - `nonce:loop!;` the loop is over.
    """
    blocks: list[_Block] = []
    for number, (words, text) in enumerate(_pieces(source)):
        yield text
        keyword = words[0] if words else ""
        closed = blocks[-1] if blocks and keyword == f"end{blocks[-1].keyword}" else None
        if keyword == "for":
            variables = tuple(filter(str.isidentifier, words[1 : words.index("in")]))
            blocks.append(_Block(keyword, number, variables))
        elif closed:
            blocks.pop()
        elif keyword in _CAPTURES and not (keyword == "set" and "=" in words and words[2] != "|"):
            blocks.append(_Block(keyword, number))

        if not words or any(block.keyword in _CAPTURES for block in blocks):
            continue
        if keyword == "for":
            yield _write(f"'{nonce}:{number}:' ~ ({_index(*blocks[-1].variables)}) ~ ';'", after=text)
        elif closed and keyword == "endfor":
            yield _write(f"'{nonce}:{closed.number}!;'", after=text)
        elif keyword == "set" and blocks and words[2] == "=":
            picked = _index(words[1])
            mark = f"'{nonce}:{blocks[-1].number}=' ~ ({picked}) ~ ';'"
            yield _write(f"{mark} if ({picked}) != '' else ''", after=text)


def _pieces(source: str) -> Iterator[tuple[list[str], str]]:
    """The template's block tags, each with its words (`["for", "message", "in", …]`), and all else with no words."""
    from jinja2 import Environment  # 85 ms that start-up need not spend

    source = re.sub(r"\r\n?", "\n", source)  # as the lexer does
    words: list[str] | None = None
    begin = end = 0
    for _, kind, value in Environment(keep_trailing_newline=True).lex(source):
        end = source.index(value, end) + len(value)  # the lexer leaves out white space that `{%-` eats
        if kind == "block_begin":
            words = []
        elif kind != "block_end" and words is not None:
            words += [value] if kind != "whitespace" else []
            continue
        if kind != "block_begin":
            yield words or [], source[begin:end]
            words, begin = None, end


def _index(*variables: str) -> str:
    """An expression for the index of the message that one of the variables holds; '' where none does."""
    tests = (f"{name}['{_INDEX}'] if {name} is mapping and '{_INDEX}' in {name} else " for name in variables)
    return "".join(tests) + "''"


def _write(expression: str, *, after: str) -> str:
    """A tag that writes an expression, right behind the block tag `after`.

    The empty `if` ends in the same way (`%}`, `-%}`, `+%}`), so that the white space that follows fares as it did.
    """
    end = re.search(r"[-+]?%}\s*$", after)
    return f"{{{{ {expression} }}}}{{% if true %}}{{% endif {end.group().strip() if end else '%}'}"


# -- reading them ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Round:
    """An open round of a loop."""

    loop: str
    message: str
    start: int


def _read(marked: str, nonce: str) -> Trace:
    """The text without its marks, and the spans they stood for.

    A round ends where the next starts or the loop ends. Its message is what the loop holds, else the first it picks.
    """
    pieces = re.split(rf"{nonce}:(\d+)([:=!])(\d*);", marked)
    written = [pieces[0]]
    position = len(pieces[0])
    rounds: list[_Round] = []
    spans: list[Span] = []
    for loop, kind, message, text in zip(pieces[1::4], pieces[2::4], pieces[3::4], pieces[4::4], strict=True):
        if kind == "=":
            if rounds and rounds[-1].loop == loop and not rounds[-1].message:
                rounds[-1].message, rounds[-1].start = message, position
        else:
            while any(round_.loop == loop for round_ in rounds):
                last = rounds.pop()
                spans += [Span(int(last.message), last.start, position)] if last.message else []
            if kind == ":":
                rounds.append(_Round(loop, message, position))
        written.append(text)
        position += len(text)
    return Trace("".join(written), tuple(spans))
