"""Renders a conversation so that each character of the text has an owner: one field of one message, or the template.

The texts of the messages go into the chat template as `Owned` text, which does what plain text does and keeps its
owners. The template is compiled as transformers compiles it, but for the places at which Jinja joins text outside of
any method of it: what is written, `a ~ b`, filters, `%` and `format`. All of them are public points of Jinja:
`finalize`, `concat`, `filters`, `call` and `call_binop`.

So the map does not depend on how a template goes about it: a loop, a macro, one long string, an index into the
messages. That the text is the right one is checked, not assumed: whoever uses a `Written` compares its text with what
`apply_chat_template` writes, to the character.
"""

from __future__ import annotations

import functools
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fttool.api import Message, ModelError, chat_text, template_limits
from fttool_plugins.masking.owned import (
    Owned,
    Owner,
    add_markup,
    as_a_whole,
    found_again,
    is_markup,
    is_owned,
    join,
    join_with,
    owned,
    plain,
    runs,
    to_json,
)

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from transformers import PreTrainedTokenizerBase

_SEEN = "{{ [messages, tools, documents] | tojson }}"
"""A chat template that tells what a chat template gets to see: transformers drops nulls and renames thoughts."""
_CHOOSERS = frozenset({"attr", "d", "default", "first", "last", "max", "min", "random", "sum", "tojson"})
"""Filters that hand on a text as it is, which then has its owners, or another one, which is not made of what went in.
`sum` adds, as `+` does; `tojson` is ours."""


_FOLLOWED = frozenset({"capitalize", "center", "lower", "replace", "reverse", "string", "trim", "upper"})
"""Filters that do no more than call the method of `str` which does the same."""


class Run(NamedTuple):
    """The characters `start` to `end` (exclusive) of a render, which have one owner."""

    start: int
    end: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class Written:
    """A render; what no run covers is text of the template."""

    text: str
    runs: tuple[Run, ...]
    """In the order of the text; they do not overlap, and none is empty."""

    def owner(self, character: int) -> Owner | None:
        """Who wrote one character; None for the template."""
        at = bisect_right(self.runs, character, key=lambda run: run.start) - 1
        return self.runs[at].owner if at >= 0 and character < self.runs[at].end else None

    def is_said(self, start: int, end: int) -> bool:
        """Whether messages, tools or documents have written all characters from `start` to `end` (exclusive), and the
        template none of them; roles are the template's.
        """
        owners = [self.owner(character) for character in range(start, end)]
        return all(owner is not None and owner.field != "role" for owner in owners)

    def of(self, message: int, *fields: str) -> list[str]:
        """What a message's fields have in the text, piece by piece; without names, all of its fields."""
        mine = (run for run in self.runs if run.owner.message == message)
        return [self.text[run.start : run.end] for run in mine if not fields or run.owner.field in fields]


class Writer:
    """Renders conversations with a tokenizer's chat template and keeps who wrote what."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._compiled: dict[str, Template] = {}
        """Template → the same, compiled to keep owners."""
        self._as_given: set[tuple[str, ...]] = set()
        """Keys of messages, all of them texts, that a chat template gets to see as they are given."""

    def write(self, messages: Sequence[Message], template: Mapping[str, Any], **more: Any) -> Written:
        """Render once; `template` and `more` hold variables, as in `apply_chat_template`.

        Whatever the template raises comes through. Text of the `tools` and `documents` is owned by these (their
        message is None), that of the other variables by the template.
        """
        variables: dict[str, Any] = {**self._tokenizer.special_tokens_map, "add_generation_prompt": False}
        variables |= {**template, **more}
        given = {key: variables.pop(key, None) for key in ("tools", "documents")}
        source = self._tokenizer.get_chat_template(tools=given["tools"])
        seen, tools, documents = self._seen(messages, given)
        said = [{key: owned(value, index, key) for key, value in message.items()} for index, message in enumerate(seen)]
        variables |= {"tools": owned(tools, None, "tools"), "documents": owned(documents, None, "documents")}
        with template_limits():
            if source not in self._compiled:
                self._compiled[source] = _compile(source)
            return _read(join(self._compiled[source].generate(messages=said, **variables)))

    def _seen(self, messages: Sequence[Message], given: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """The messages, tools and documents as a chat template gets to see them.

        Asked once of messages that are texts with the same keys: what transformers changes hangs on these.
        """
        kinds = {tuple(message) for message in messages}
        texts = not any(given.values()) and all(type(text) is str for one in messages for text in one.values())
        if texts and kinds <= self._as_given:
            return messages, None, None
        seen, tools, documents = json.loads(chat_text(self._tokenizer, messages, chat_template=_SEEN, **given))
        if texts and seen == list(messages):
            self._as_given |= kinds
        return seen, tools, documents

    def tried(self, messages: Sequence[Message], template: Mapping[str, Any], **more: Any) -> Written | None:
        """`write`; None where the template refuses these messages, or there are none."""
        try:
            return self.write(messages, template, **more) if messages else None
        except ModelError:  # it does not end
            raise
        except Exception:  # a template is foreign code: it may raise anything
            return None


def _read(text: str) -> Written:
    found: list[Run] = []
    place = 0
    for count, owner in runs(text):
        if owner and count:
            if found and found[-1].end == place and found[-1].owner == owner:
                found[-1] = Run(found[-1].start, place + count, owner)
            else:
                found.append(Run(place, place + count, owner))
        place += count
    return Written(
        "".join((text,)) if not isinstance(text, Owned) else str.__getitem__(text, slice(None)), tuple(found)
    )


# -- the template, compiled ------------------------------------------------------------------------------------------


def _compile(source: str) -> Template:
    """The chat template with every join of texts one that keeps owners."""
    environment = _environment()
    return environment.from_string(_joins(environment.parse(source)))


def _joins(tree: Any) -> Any:
    """The syntax tree with `a ~ b` as a filter: Jinja joins the two outside of anything that could be told not to."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    class Transformer(NodeTransformer):
        def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 (Jinja's own way to name it)
            self.generic_visit(node)
            return nodes.Filter(nodes.List(node.nodes), "concat", [], [], None, None, lineno=node.lineno)

    return Transformer().visit(tree)


@functools.cache
def _environment() -> Environment:
    """Jinja as transformers sets it up for chat templates, keeping owners."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.runtime import Context
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup, escape

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}`: what stands between them is written as if they were not there."""

        tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

        def _written(self, caller: Callable[[], str]) -> str:
            return caller()

    class Keeping(ImmutableSandboxedEnvironment):
        concat = staticmethod(join)
        intercepted_binops = frozenset(["%", "+", "*"])

        def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (as Jinja names them)
            text = getattr(__obj, "__self__", None)
            if type(text) is str:  # a method of plain text: with that of `Owned`, what it is given keeps its owners
                __obj = getattr(Owned(text), __obj.__name__)
            result = super().call(__context, __obj, *args, **kwargs)
            return _kept_again(result, (text, args, kwargs)) if isinstance(text, Markup) else result

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "+" and isinstance(left, str) and isinstance(right, str):
                if is_markup(left) or is_markup(right):
                    return add_markup(left, right, lambda text: plain(escape(text)))
                return left + right
            result = super().call_binop(context, operator, left, right)
            return _kept_again(result, (left, right))

        def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
            wrapped = super().wrap_str_format(value)
            if wrapped is None:
                return None
            text = value.__self__
            return lambda *args, **kwargs: _kept_again(wrapped(*args, **kwargs), (text, args, kwargs))

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = Keeping(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"], finalize=_as_text
    )
    environment.filters = {name: _kept(name, filter_) for name, filter_ in environment.filters.items()}
    environment.filters |= {"tojson": to_json, "join": _join_filter, "concat": _concat_filter}
    known: dict[str, Any] = environment.globals
    known |= {"raise_exception": raise_exception, "strftime_now": _strftime_now}
    return environment


def _kept_again(result: Any, source: Any) -> Any:
    """A text made of others, with the owners of these. `Markup` (`| safe`) makes texts without, and stays what it is
    where they have none: it escapes what is added to it.
    """
    if not isinstance(result, str) or isinstance(result, Owned) or not is_owned(source):
        return result
    return found_again(plain(result), source)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _as_text(value: Any) -> Any:
    """What an expression writes: a list of messages, say, as Python prints it, owned as a whole."""
    return as_a_whole(str(value), value) if isinstance(value, list | tuple | Mapping) else value


def _concat_filter(parts: Sequence[Any]) -> str:
    return join([str(_as_text(part)) for part in parts])


def _join_filter(value: Any, d: Any = "", attribute: Any = None) -> str:
    """Jinja's own filter of this name."""
    texts = [item[attribute] for item in value] if attribute is not None else value
    return join_with(str(d), [str(_as_text(text)) for text in texts])


def _kept(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose result, where it is a new text, is followed as a whole unless it keeps its owners itself."""
    if name in _CHOOSERS:
        return filter_

    @functools.wraps(filter_)
    def keeping(*args: Any, **kwargs: Any) -> Any:
        result = filter_(*args, **kwargs)
        if not isinstance(result, str) or (name in _FOLLOWED and isinstance(result, Owned)):
            return result
        if not is_owned((args, kwargs)):
            return result
        return (found_again if name == "format" else as_a_whole)(plain(result), (*args, kwargs))

    return keeping
