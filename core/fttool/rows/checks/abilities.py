"""What a chat template can write, proven: of what the rows give it, a sentinel in its place comes out again.

Templates drop what they do not know without a word: tools, calls, thoughts, names, any other key of a turn, variables.
A row is not to blame for that, and
no other row of its kind would fare better. So the first row that has such a field is rendered once more with a word in
it that stands nowhere else; where that word does not come out, plainer conversations are tried, since templates leave
out earlier thoughts by design, want a call's arguments in one of two forms, or refuse null.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from fttool.contracts.rows import Encoded, Example, Message, RowEncoder
from fttool.errors import ModelError, Problem, gist
from fttool.plain import is_array, is_table
from fttool.rows.checks.columns import meaning
from fttool.rows.templates import chat_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys under which a turn carries its thought."""
NAMED = ("system", "developer", "user", "assistant", "tool")
"""Roles whose turns may have a name; a template may do without."""

READ = frozenset({"role", "content", "tool_calls", "name", "tool_call_id", *THOUGHTS})
"""Keys of a turn that need no look of their own; which call an answer belongs to, templates seldom write."""
PLAIN = {"role", "content"}
"""Keys of a turn that every template writes."""
LEFT_OUT = "which the chat template leaves out"

FAILS = "it fails:"

Turns = Sequence[Message]
Variables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Field:
    """Something that rows give a template beside roles and contents."""

    words: str
    """What it is, for `the chat template cannot write …`."""
    plant: Callable[[Turns, Variables, str], tuple[Turns, Variables]]
    """A conversation with the sentinel wherever it has the field."""
    plainer: Callable[[Variables], Iterator[tuple[Turns, Variables]]]
    """Conversations that have the field, for a template that writes it only in some."""


class Abilities:
    """What one tokenizer's chat template writes, found out when a row first needs it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._sentinel = f"fttool{secrets.token_hex(8)}"
        self._found: dict[str, str] = {}
        """Field → what keeps the template from writing it; empty where it does."""

    def check(self, example: Example) -> Sequence[str]:
        """Remarks on a row, of what the template leaves out that it can do without.

        Raises `ModelError` where the template cannot write tools, calls or thoughts that the row has, or another key of
        its turns or a variable that means something to others.
        """
        if not example.template and all(map(PLAIN.issuperset, example.messages)):
            return ()
        if not getattr(self._tokenizer, "chat_template", None):
            return ()  # masking says so
        lacking = [name for name in _needed(example) if self._obstacle(name, FIELDS[name], example)]
        for name in lacking:
            if name not in NAMED:
                hint = "choose one that can, as a Jinja file: model.chat_template; or take them out of the rows"
                raise self._refusal(FIELDS[name].words, self._found[name], hint, example)
        remarks = [f"with {FIELDS[name].words}, {LEFT_OUT}" for name in lacking]
        return [*remarks, *self._other_keys(example), *self._variables(example)]

    def _other_keys(self, example: Example) -> Iterator[str]:
        """The same of keys of turns that only some template may know."""
        values = {key: turn[key] for turn in example.messages for key in turn.keys() - READ}
        for key in sorted(values):
            field = _Field(f"'{key}' of turns", _plant_leaves(key), _with_key(key, values[key]))
            obstacle = self._obstacle(f"turns[].{key}", field, example)
            if obstacle and meaning(key, values[key]):
                hint = f'choose one that can: model.chat_template; or leave it out, beside the path: ignore = ["{key}"]'
                raise self._refusal(field.words, obstacle, hint, example)
            if obstacle:
                yield f"with {field.words}, {LEFT_OUT}"

    def _variables(self, example: Example) -> Iterator[str]:
        """The same of variables, whose names the template's source has or has not."""
        for name in sorted(example.template.keys() - {"tools"}):
            if not self._mentions(name, example):
                if name == "documents":
                    hint = "choose one that can, as a Jinja file: model.chat_template; or take them out of the rows"
                    raise self._refusal(name, "it has no such variable", hint, example)
                yield f"with the variable '{name}', which the chat template does not know"

    def _mentions(self, name: str, example: Example) -> bool:
        source = str(self._tokenizer.get_chat_template(tools=example.template.get("tools")))
        return re.search(rf"\b{re.escape(name)}\b", source) is not None

    def _refusal(self, words: str, why: str, hint: str, example: Example) -> ModelError:
        message = f"the chat template cannot write {words}: {why} ({example.origin})"
        return ModelError(Problem(message, hint=hint, key=("model", "chat_template")))

    def _obstacle(self, name: str, field: _Field, example: Example) -> str:
        if name not in self._found:
            self._found[name] = self._try(field, example)
        return self._found[name]

    def _try(self, field: _Field, example: Example) -> str:
        """Why the template does not write a field, neither in this row nor in a plainer one; empty where it does, and
        where it fails at a question and its answer already, which masking says.
        """
        bare = {key: value for key, value in example.template.items() if key != "tools"}
        faults: list[str] = []
        for turns, variables in [(example.messages, example.template), *field.plainer(bare)]:
            planted = field.plant(turns, variables, self._sentinel)
            for fault in self._faults(planted):
                if not fault:
                    return ""
                faults.append(fault)
        if all(fault.startswith(FAILS) for fault in faults) and isinstance(self._written([ASKED, ANSWERED], {}), str):
            return faults[0]
        return next((fault for fault in faults if not fault.startswith(FAILS)), "")

    def _faults(self, planted: tuple[Turns, Variables]) -> Iterator[str]:
        """What keeps the planted words from being written, with and without asking for an answer; none where they are
        not planted.
        """
        expected = set(re.findall(rf"{self._sentinel}[a-z]*", json.dumps([list(planted[0]), dict(planted[1])])))
        for asking in (False, True) if expected else ():
            text = self._written(planted[0], {**planted[1], "add_generation_prompt": asking})
            if isinstance(text, Exception):
                yield f"{FAILS} {gist(text)}"
                continue
            missing = sorted(word.removeprefix(self._sentinel) for word in expected if word not in text)
            all_missing = len(missing) == len(expected)
            yield f"it leaves {'them' if all_missing else 'the ' + ' and '.join(missing)} out" if missing else ""

    def _written(self, turns: Turns, variables: Variables) -> str | Exception:
        """The render, or why there is none."""
        try:
            return chat_text(self._tokenizer, turns, **variables)
        except ModelError:  # it never ends, or writes without end
            raise
        except Exception as fault:  # a template is foreign code: it may raise anything
            return fault


def proving(encode: RowEncoder, tokenizer: PreTrainedTokenizerBase) -> RowEncoder:
    """The encoder, which first asks of each row whether the chat template can write what it has."""
    abilities = Abilities(tokenizer)

    def proven(example: Example) -> Encoded:
        remarks = abilities.check(example)
        row = encode(example)
        return replace(row, remarks=(*row.remarks, *remarks)) if remarks else row

    return proven


def _needed(example: Example) -> Iterator[str]:
    """The fields that a row has."""
    if example.template.get("tools"):
        yield "tools"
    turns = example.messages
    if any(turn.get("tool_calls") for turn in turns):
        yield "tool_calls"
    yield from (key for key in THOUGHTS if any(isinstance(turn.get(key), str) and turn[key].strip() for turn in turns))
    named = {turn.get("role") for turn in turns if turn.get("name")}
    yield from (role for role in NAMED if role in named)


# -- planting ------------------------------------------------------------------------------------------------------


def _plant_tools(messages: Turns, template: Variables, sentinel: str) -> tuple[Turns, Variables]:
    def planted(tool: Any) -> Any:
        if not is_table(tool):
            return tool
        if is_table(tool.get("function")):
            return {**tool, "function": planted(tool["function"])}
        new = {**tool, "name": f"{sentinel}name"}
        if tool.get("description"):
            new["description"] = f"{sentinel}description"
        parameters: Any = tool.get("parameters")
        if is_table(parameters) and is_table(parameters.get("properties")) and parameters["properties"]:
            first = next(iter(parameters["properties"].values()))
            new["parameters"] = {**parameters, "properties": {f"{sentinel}parameter": first}}
        return new

    tools = template.get("tools")
    return messages, {**template, "tools": [planted(tool) for tool in tools] if is_array(tools) else tools}


def _plant_calls(messages: Turns, template: Variables, sentinel: str) -> tuple[Turns, Variables]:
    def planted(call: Any) -> Any:
        if not is_table(call):
            return call
        if is_table(call.get("function")):
            return {**call, "function": planted(call["function"])}
        arguments: Any = call.get("arguments")
        if arguments in (None, {}, "", "{}"):
            return {**call, "name": f"{sentinel}name"}
        new = {f"{sentinel}argument": f"{sentinel}value"}
        return {
            **call,
            "name": f"{sentinel}name",
            "arguments": json.dumps(new) if isinstance(arguments, str) else new,
        }

    return [
        {**turn, "tool_calls": [planted(call) for call in turn["tool_calls"]]} if turn.get("tool_calls") else turn
        for turn in messages
    ], template


def _plant_text(key: str, role: str | None = None) -> Callable[[Turns, Variables, str], tuple[Turns, Variables]]:
    def plant(messages: Turns, template: Variables, sentinel: str) -> tuple[Turns, Variables]:
        return [
            {**turn, key: sentinel} if turn.get(key) and role in (None, turn["role"]) else turn for turn in messages
        ], template

    return plant


def _plant_leaves(key: str) -> Callable[[Turns, Variables, str], tuple[Turns, Variables]]:
    """The sentinel in place of every text in a value, or of the value where it has none (a number, a yes)."""

    def planted(value: Any, sentinel: str) -> Any:
        if is_table(value):
            return {name: planted(item, sentinel) for name, item in value.items()}
        if is_array(value):
            return [planted(item, sentinel) for item in value]
        return sentinel if value is not None else None

    def plant(messages: Turns, template: Variables, sentinel: str) -> tuple[Turns, Variables]:
        return [{**turn, key: planted(turn[key], sentinel)} if key in turn else turn for turn in messages], template

    return plant


# -- plainer conversations -----------------------------------------------------------------------------------------

ASKED: Message = {"role": "user", "content": "Is it cold?"}
ANSWERED: Message = {"role": "assistant", "content": "It is."}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city."}}},
    },
}


def _with_tools(template: Variables) -> Iterator[tuple[Turns, Variables]]:
    for turns in ([ASKED], [{"role": "system", "content": "Be brief."}, ASKED], [ASKED, ANSWERED]):
        yield turns, {**template, "tools": [TOOL]}


def _with_calls(template: Variables) -> Iterator[tuple[Turns, Variables]]:
    arguments = {"city": "Rome"}
    for content, given, tools in product(("", None, "I look."), (arguments, json.dumps(arguments)), ([TOOL], None)):
        call = {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": given}}
        turn: Message = {"role": "assistant", "content": content, "tool_calls": [call]}
        more = {**template, "tools": tools} if tools else template
        yield [ASKED, turn], more
        yield [ASKED, turn, {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "8"}], more


def _with_thought(key: str) -> Callable[[Variables], Iterator[tuple[Turns, Variables]]]:
    def plainer(template: Variables) -> Iterator[tuple[Turns, Variables]]:
        thoughtful = [ASKED, {**ANSWERED, key: "Eight degrees."}]
        yield thoughtful, template
        yield thoughtful, {**template, "enable_thinking": True}
        for turns, more in _with_calls(template):
            yield [turn if turn is ASKED else {**turn, key: "Eight degrees."} for turn in turns[:2]], more

    return plainer


def _with_key(key: str, value: Any) -> Callable[[Variables], Iterator[tuple[Turns, Variables]]]:
    def plainer(template: Variables) -> Iterator[tuple[Turns, Variables]]:
        yield [{**ASKED, key: value}, ANSWERED], template
        yield [ASKED, {**ANSWERED, key: value}], template

    return plainer


def _with_name(role: str) -> Callable[[Variables], Iterator[tuple[Turns, Variables]]]:
    def plainer(template: Variables) -> Iterator[tuple[Turns, Variables]]:
        first: list[Message] = [{"role": role, "content": "Be brief."}] if role in ("system", "developer") else []
        turns = [{**turn, "name": "anna"} if turn["role"] == role else turn for turn in [*first, ASKED, ANSWERED]]
        yield turns, template
        yield from _with_calls(template)

    return plainer


FIELDS: Mapping[str, _Field] = {
    "tools": _Field("tools", _plant_tools, _with_tools),
    "tool_calls": _Field("tool calls", _plant_calls, _with_calls),
    **{key: _Field(f"thoughts ({key})", _plant_text(key), _with_thought(key)) for key in THOUGHTS},
    **{role: _Field(f"a name of the {role}'s turns", _plant_text("name", role), _with_name(role)) for role in NAMED},
}
