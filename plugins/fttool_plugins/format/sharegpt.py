"""`sharegpt`: conversations with `from` and `value`, and speakers by many names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from typing_extensions import override

from fttool.api import Example, Format, FormatContext, Message, RowReader
from fttool_plugins.format.columns import fetch
from fttool_plugins.format.conversation import Turns, as_message, check_order, each_turn, read_template
from fttool_plugins.format.tool_calls import read_calls

Speaker: TypeAlias = Literal["system", "user", "assistant", "tool", "function_call"]
"""Who speaks; `function_call` is the assistant where it calls a tool, with the call as JSON text for its words."""

SPEAKERS: Mapping[str, Speaker] = {
    "system": "system",
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "bing", "bard", "chatgpt", "bot", "chatbot", "model"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response", "function", "ipython"), "tool"),
    "function_call": "function_call",
}
"""What speakers are called in the wild, in small letters."""


class ShareGPT(Format):
    """A conversation: `{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}`.

    A turn may as well have `role` and `content`. Speakers are known by the names human and user; gpt, assistant, bing,
    bard, chatgpt, bot, chatbot and model; system; tool, observation, function, function_response and ipython; and
    function_call, whose words are JSON text of a call or a list of calls. `roles` adds others; an unknown one is
    refused.

    The column `system` becomes the first turn; `tools` and `chat_template_kwargs` go to the chat template. Marks, nulls
    and further keys of a turn are as in `messages`, and the last turn must be the assistant's.
    """

    name: Literal["sharegpt"] = "sharegpt"
    example: ClassVar[Mapping[str, Any]] = {
        "conversations": [{"from": "human", "value": "Is it far?"}, {"from": "gpt", "value": "Two miles."}]
    }
    column: str = "conversations"
    """The column that holds the list of turns."""
    system: str = "system"
    """The column of a system turn, for rows that have one beside their turns."""
    roles: Mapping[str, Speaker] = {}
    """Who speaks under a name that is not known: `{narrator = "user"}`."""
    leading_assistant: Literal["refuse", "drop", "keep"] = "refuse"
    """What becomes of a first turn that is the assistant's, which nothing has asked for: the row is bad, the turn is
    left out and counted, or it is kept and learned."""

    @override
    def build(self, ctx: FormatContext) -> RowReader:
        return lambda row, origin: read_sharegpt(row, origin, self, ctx.note)


def read_sharegpt(row: Mapping[str, Any], origin: str, options: ShareGPT, note: Callable[[str], None]) -> Example:
    """The conversation of a row; raises `ValueError` where there is none to learn from."""
    column = options.column
    turns = _turns(fetch(row, column, "column", "sharegpt"), options)
    turns = _with_system(turns, row.get(options.system), options)
    first = 1 if turns.messages[0]["role"] == "system" else 0
    if len(turns.messages) > first and turns.messages[first]["role"] == "assistant":
        turns = _leading(turns, first, options, note)
    check_order(turns.messages)
    return Example(
        origin=origin,
        messages=turns.messages,
        completion_from=len(turns.messages) - 1,
        template=read_template(row),
        unlearned=turns.unlearned,
    )


def _turns(value: Any, options: ShareGPT) -> Turns:
    messages: list[Message] = []
    unlearned: set[int] = set()
    for turn, where in each_turn(value, options.column):
        message, learned = _read_turn(turn, where, options)
        if not learned:
            unlearned.add(len(messages))
        messages.append(message)
    return Turns(tuple(messages), frozenset(unlearned))


def _read_turn(turn: Any, where: str, options: ShareGPT) -> tuple[Message, bool]:
    if not isinstance(turn, Mapping):
        raise ValueError(f'{where} must be {{"from": …, "value": …}}, this is {type(turn).__name__}')
    by = "from" if "from" in turn else "role"
    said = "value" if "value" in turn else "content"
    _check_one(turn, where, options.roles)
    if by not in turn:
        raise ValueError(f"{where} has neither 'from' nor 'role' (its keys: {', '.join(map(repr, turn))})")
    speaker = _speaker(turn[by], where, options.roles)
    where = f"{where} ({turn[by]})"
    rest = {key: value for key, value in turn.items() if key not in ("from", "role", "value", "content")}
    if speaker == "function_call":
        return as_message({**rest, "content": None, "tool_calls": _calls(turn.get(said), where)}, "assistant", where)
    return as_message({**rest, "content": turn.get(said)}, speaker, where)


def _check_one(turn: Mapping[str, Any], where: str, roles: Mapping[str, Speaker]) -> None:
    """Raise `ValueError` for a turn that has a speaker or words twice, and not the same ones."""
    empty = (None, "")
    for theirs, ours in (("from", "role"), ("value", "content")):
        first, second = turn.get(theirs), turn.get(ours)
        if first in empty or second in empty or first == second:
            continue
        if theirs == "from" and _speaker(first, where, roles) == _speaker(second, where, roles):
            continue
        raise ValueError(f"{where} has '{theirs}' and '{ours}', which differ; leave one out: ignore = [\"{ours}\"]")


def _speaker(name: Any, where: str, roles: Mapping[str, Speaker]) -> Speaker:
    if isinstance(name, str):
        for known in (roles, SPEAKERS):
            for spelled in (name, name.strip().lower()):
                if spelled in known:
                    return known[spelled]
        near = difflib.get_close_matches(name.strip().lower(), SPEAKERS, n=1)
        meant = f"did you mean '{near[0]}'? else " if near else ""
        option = f'format = {{name = "sharegpt", roles = {{"{name}" = "user"}}}} or whoever it is'
        raise ValueError(f"{where} is of {name!r}, which is not known: {meant}say who speaks: {option}")
    raise ValueError(f"the speaker of {where} must be text, this is {type(name).__name__}")


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    """The calls that a turn's text holds, as the chat template gets them."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.startswith("{"):
        text = f"[{text}]"
    calls = read_calls(text, where)
    if not calls or not all(isinstance(call.get("name"), str) for call in calls):
        raise ValueError(f'{where} must name the function that it calls: {{"name": …, "arguments": …}}')
    return [{"type": "function", "function": call} for call in calls]


def _with_system(turns: Turns, system: Any, options: ShareGPT) -> Turns:
    if system is None or (isinstance(system, str) and not system.strip()):
        return turns
    if not isinstance(system, str):
        raise ValueError(f"'{options.system}' must be text, this is {type(system).__name__}")
    if turns.messages[0]["role"] == "system":
        raise ValueError(f"'{options.column}' begins with a system turn, and there is one in '{options.system}' too")
    return Turns(({"role": "system", "content": system},), frozenset()) + turns


def _leading(turns: Turns, first: int, options: ShareGPT, note: Callable[[str], None]) -> Turns:
    """The turns once a first one that is the assistant's has had its way."""
    if options.leading_assistant == "keep":
        return turns
    if options.leading_assistant == "refuse":
        choices = 'format = {name = "sharegpt", leading_assistant = "drop"}, or "keep" to learn it'
        raise ValueError(f"the assistant speaks first in '{options.column}', in answer to nothing; choose: {choices}")
    note("leading turns of the assistant left out")
    messages = turns.messages[:first] + turns.messages[first + 1 :]
    if not messages:
        raise ValueError(f"'{options.column}' has no turn but the assistant's first, which is left out")
    moved = frozenset(index - (index > first) for index in turns.unlearned if index != first)
    return Turns(messages, moved)
