"""A chat template compiled as transformers compiles it, but so that the text it writes keeps its owners.

Jinja joins text outside of any method of it at some places: what is written, `a ~ b`, filters, `%` and `format`. All of
them are public points of Jinja: `finalize`, `concat`, `filters`, `call` and `call_binop`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from markupsafe import Markup, escape

from fttool_plugins.masking.owned import (
    Owned,
    add_markup,
    as_a_whole,
    found_again,
    is_markup,
    is_owned,
    join,
    join_with,
    plain,
    to_json,
)

_CHOOSERS = frozenset({"attr", "d", "default", "first", "last", "max", "min", "random", "sum", "tojson"})
"""Filters that hand on a text as it is, which then has its owners, or another one, which is not made of what went in.
`sum` adds, as `+` does; `tojson` is ours."""
_FOLLOWED = frozenset({"capitalize", "center", "lower", "replace", "reverse", "string", "trim", "upper"})
"""Filters that do no more than call the method of `str` which does the same."""


def compiled(source: str) -> Template:
    """The chat template with every join of texts one that keeps owners."""
    environment = _environment()
    return environment.from_string(_Joins().visit(environment.parse(source)))


class _Joins(NodeTransformer):
    """A syntax tree with `a ~ b` as a filter: Jinja joins the two outside of anything that could be told not to."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 (Jinja's own way to name it)
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "concat", [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: what stands between them is written as if they were not there."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_written"), [], [], body).set_lineno(line)

    def _written(self, caller: Callable[[], str]) -> str:
        return caller()


class _Keeping(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up for chat templates, in which joined texts keep their owners."""

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


@functools.cache
def _environment() -> Environment:
    environment = _Keeping(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"], finalize=_as_text
    )
    environment.filters = {name: _kept(name, filter_) for name, filter_ in environment.filters.items()}
    environment.filters |= {"tojson": to_json, "join": _join_filter, "concat": _concat_filter}
    known: dict[str, Any] = environment.globals
    known |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


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
